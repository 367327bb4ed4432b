"""The command line: it selects the command, and turns an error into one line and an exit status."""

import os
import sys

import lane
from lane.cli.commands import COMMANDS
from lane.cli.exits import ENDS, exit_status
from lane.errors import UsageError
from lane.text import complain


def main(argv: list[str] | None = None) -> int:
    """Run the command in `argv` (default: `sys.argv[1:]`). Return the exit status (see `lane.cli.exits`)."""
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except ENDS as error:
        complain(f"lane: {error}")
        return exit_status(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads the output. Without this, the interpreter would print another error at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return status


def _run(argv: list[str]) -> int:
    if argv[:1] == ["help"]:
        argv = [*argv[1:3], "--help"]
    if argv[:1] in (["-h"], ["--help"]):
        print(_overview())
        return 0
    if argv == ["version"] or (len(argv) <= 2 and argv[-1:] in (["-V"], ["--version"])):
        from lane.cli.build import build  # noqa: PLC0415

        print(f"lane {lane.__version__} ({build()})")
        return 0
    command, rest = split(argv)
    if command == "user" and rest[:1] in ([], ["-h"], ["--help"]):
        print(_overview("user "))
        return 0 if rest else 2
    if command not in COMMANDS:
        if "://" in command:  # a link has a key in it
            raise UsageError("unknown command (a link is given with --server; lane --help lists commands)")
        from lane.cli.hints import nearest  # noqa: PLC0415

        hint = nearest(command, COMMANDS)
        raise UsageError(f"unknown command {command!r}{hint} (lane --help lists them)")
    from lane.cli import running  # noqa: PLC0415

    return running.run(command, ["--help"] if rest == ["help"] else rest)


def split(argv: list[str]) -> tuple[str, list[str]]:
    """The command, which may be two words, and its arguments."""
    if not argv or argv[0].startswith("-"):
        return "client", argv
    words = 2 if argv[0] == "user" and len(argv) > 1 and not argv[1].startswith("-") else 1
    return " ".join(argv[:words]), argv[words:]


def _overview(first: str = "") -> str:
    """The commands that begin with `first`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items() if name.startswith(first)]
    return "\n".join(
        [
            "usage: lane [command] [options]",
            "",
            "A tunnel proxy with pluggable transports. Commands:",
            "",
            *lines,
            "",
            "lane COMMAND --help lists the options of a command; lane --version prints the version.",
        ]
    )
