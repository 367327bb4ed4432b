"""The command line: it selects the command, and turns an error into one line and an exit status."""

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import lane
from lane import log, supervisor
from lane.cli import option_parser
from lane.cli.exits import ENDS, exit_status
from lane.cli.hints import nearest
from lane.cli.reload import rereading
from lane.config import (
    ClientConfig,
    PluginsConfig,
    ServerConfig,
    client_config,
    link_config,
    plugins_config,
    server_config,
    why_config,
)
from lane.errors import UsageError
from lane.heap import settle
from lane.text import complain
from lane.watchdog import Watchdog

_CONFIGS: dict[str, Callable[[Any], Any]] = {
    "client": client_config,
    "server": server_config,
    "check": client_config,
    "why": why_config,
    "link": link_config,
    "plugins": plugins_config,
}
_SERVICES = ("client", "server")


def main(argv: list[str] | None = None) -> int:
    """Run the command in `argv` (default: `sys.argv[1:]`). Return the exit status (see `lane.cli.exits`)."""
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except ENDS as error:
        _complain(str(error))
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
        argv = [*argv[1:2], "--help"]
    if argv[:1] in (["-h"], ["--help"]):
        print(_overview())
        return 0
    if argv == ["version"] or (len(argv) <= 2 and argv[-1:] in (["-V"], ["--version"])):
        print(f"lane {lane.__version__}")
        return 0
    command, rest = ("client", argv) if not argv or argv[0].startswith("-") else (argv[0], argv[1:])
    if command not in option_parser.COMMANDS:
        if "://" in command:  # a link has a key in it
            raise UsageError("unknown command (a link is given with --server; lane --help lists commands)")
        hint = nearest(command, option_parser.COMMANDS)
        raise UsageError(f"unknown command {command!r}{hint} (lane --help lists them)")
    if rest == ["help"]:
        rest = ["--help"]
    namespace, plugins = option_parser.parse(command, rest, _complain)
    config = _CONFIGS[command](namespace)
    if command == "check" and config.server is None:
        raise UsageError("no server to check: pass --server")
    if command in option_parser.WITH_PLUGIN_OPTIONS and config != PluginsConfig(measure=None):
        known = len(plugins.errors)
        try:
            plugins.configure(namespace)
        except UsageError as wrong:
            if not namespace.from_link:
                raise
            names = ", ".join(option.partition("=")[0] for option in namespace.from_link)
            raise UsageError(f"{wrong} (the server's link sets {names})") from None
        for error in plugins.errors[known:]:
            _complain(str(error))
    with ExitStack() as resources:
        if isinstance(config, ClientConfig | ServerConfig):
            log.setup(config.log_level, config.log_file)
            supervisor.report_all(plugins.owner)
            resources.callback(Watchdog(plugins.owner).close)
        run = importlib.import_module(f"lane.cli.{command}").run
        if command in _SERVICES:
            settle()
            run = partial(run, again=rereading(command, rest, namespace, plugins, _CONFIGS[command]))
        status: int = run(config, plugins)
    return status


def _overview() -> str:
    width = max(map(len, option_parser.COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in option_parser.COMMANDS.items()]
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


def _complain(message: str) -> None:
    complain(f"lane: {message}")
