"""The commands, of one word or two. The overview and a mistyped command need no more than this, so it imports
nothing.
"""

COMMANDS = {
    "client": "carry the connections of applications to a server (the default command)",
    "server": "connect clients to their targets",
    "check": "try the server over each transport and print the results",
    "speedtest": "measure what each transport delivers, and the delay beside it",
    "top": "show live what a running client or server carries",
    "why": "say which transport a running client uses, and why",
    "open": "show the page of a running client or server in a browser",
    "status": "say what a running server has: its processes and their sessions",
    "upgrade": "have the installed version replace a running server or client",
    "diag": "print a diagnosis for a bug report, without secrets",
    "reload": "have a running server or client read its files again",
    "link": "print the link that clients need",
    "service install": "have systemd run the client or the server",
    "service remove": "take away what `lane service install` wrote",
    "user add": "add a user, and print the link and its QR code",
    "user list": "list the users: who is there, what they use, their limits",
    "user show": "show a user, with what was used by day",
    "user set": "change the limits of a user",
    "user disable": "end a user's connections, and allow no more",
    "user enable": "allow a disabled user's connections again",
    "user remove": "remove a user, and what is known of it",
    "user rotate-key": "give a user a new key, and print the new link",
    "user link": "print a user's link",
    "kick": "end all connections of a user now",
    "plugins": "list the plugins, or measure the cost of a transport",
}


def split(argv: list[str]) -> tuple[str, list[str]]:
    """The command that `argv` begins with, and the rest. Without one it is the client."""
    if not argv or argv[0].startswith("-"):
        return "client", argv
    both = " ".join(argv[:2])
    return (both, argv[2:]) if both in COMMANDS else (argv[0], argv[1:])


def family(word: str) -> list[str]:
    """The commands of two words that begin with `word`."""
    return [name for name in COMMANDS if name.startswith(f"{word} ")]
