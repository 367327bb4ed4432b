"""The commands. The overview and a mistyped command need no more than this, so it imports nothing."""

COMMANDS = {
    "client": "carry the connections of applications to a server (the default command)",
    "server": "connect clients to their targets",
    "check": "try the server over each transport and print the results",
    "why": "say which transport a running client uses, and why",
    "status": "say what a running server has: its processes and their sessions",
    "upgrade": "have the version that is installed now take the place of a running server",
    "link": "print the link that clients need",
    "plugins": "list the plugins and their errors, or measure the cost of a transport",
}
