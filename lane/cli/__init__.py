"""The command line: it selects the command, and turns an error into one line and an exit status."""

import os
import sys
from collections.abc import Collection

import lane
from lane.cli.commands import COMMANDS, family, split
from lane.cli.exits import ENDS, exit_status
from lane.errors import UsageError
from lane.handover.notes import VARIABLE
from lane.text import complain


def main(argv: list[str] | None = None) -> int:
    """Run the command in `argv` (default: `sys.argv[1:]`). Return the exit status (see `lane.cli.exits`)."""
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except ENDS as error:
        complain(f"lane: {error}")
        if "lane.handover.succession" in sys.modules or VARIABLE in os.environ:
            from lane.handover.succession import fail  # noqa: PLC0415

            fail(str(error))
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
        print(_overview("lane [command]", COMMANDS))
        return 0
    if argv == ["version"] or (len(argv) <= 2 and argv[-1:] in (["-V"], ["--version"])):
        from lane.cli.build import build  # noqa: PLC0415

        print(f"lane {lane.__version__} ({build()})")
        return 0
    if argv and argv[0].partition("=")[0] == "--print-completion":
        from lane.cli.shipped import print_completion  # noqa: PLC0415

        return print_completion(" ".join(argv).replace("=", " ", 1).partition(" ")[2])
    command, rest = split(argv)
    if command not in COMMANDS:
        if members := family(command):
            if rest[:1] in (["-h"], ["--help"], ["help"]):
                print(_overview(f"lane {command} COMMAND", members))
                return 0
            from lane.cli.hints import nearest  # noqa: PLC0415

            if not rest or not nearest(rest[0], [name.partition(" ")[2] for name in members]):
                raise UsageError(f"expected lane {' or lane '.join(members)}")
            command = f"{command} {rest[0]}"
        if "://" in command:  # a link has a key in it
            raise UsageError("unknown command (a link is given with --server; lane --help lists commands)")
        from lane.cli.hints import nearest  # noqa: PLC0415

        hint = nearest(command, COMMANDS)
        raise UsageError(f"unknown command {command!r}{hint} (lane --help lists them)")
    from lane.cli import running  # noqa: PLC0415

    return running.run(command, ["--help"] if rest == ["help"] else rest)


def _overview(usage: str, names: Collection[str]) -> str:
    width = max(map(len, names))
    lines = [f"  {name:{width}}  {COMMANDS[name]}" for name in names]
    return "\n".join(
        [
            f"usage: {usage} [options]",
            "",
            "A tunnel proxy with pluggable transports. Commands:",
            "",
            *lines,
            "",
            "lane COMMAND --help lists the options of a command; lane --version prints the",
            "version; lane --print-completion bash|zsh|fish prints completions for a shell.",
        ]
    )
