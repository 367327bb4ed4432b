"""Completions for shells, and the manual page, from the tables of commands and options.

`lane.cli.reference` writes them to share/ in a checkout. They are installed with lane, so that shells and
man(1) find them, and a running lane imports none of this.
"""

from argparse import ArgumentParser, HelpFormatter
from functools import partial
from typing import Any

import shtab
from argparse_manpage.manpage import Manpage

import lane
from lane.cli.commands import COMMANDS
from lane.cli.config_sources import PREFIX
from lane.cli.option_parser import WITH_PLUGIN_OPTIONS
from lane.cli.shipped import SHELLS
from lane.config.option import Option
from lane.config.settings import GROUPS
from lane.plugins import load

_COMPLETE = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY, "PATH": shtab.FILE, "SERVER": shtab.FILE}
"""What stands for a value of an option, by its metavar. A server may be @FILE."""
_FILES = """\
.TP
.I ~/.config/lane/client.conf\\fR, \\fI/etc/lane/client.conf
Options of the client, one "option = value" a line. The first one wins.
.TP
.I ~/.config/lane/server.conf\\fR, \\fI/etc/lane/server.conf
Options of the server.
.TP
.I /var/lib/lane\\fR, \\fI~/.local/state/lane
The server's certificate and keys, as a service and otherwise."""
_PURPOSE = "Carries the connections of applications to a server, over TLS or QUIC, whichever is better now."
_LAYOUT: Any = partial(HelpFormatter, width=1 << 20)
"""On one line each: a reader of the texts breaks them itself."""
_STATUSES = """\
0 success, 2 wrong usage, 69 the server or the asked process can't be reached, 77 refused, 78 a wrong
configuration, 130 and 143 stopped at once."""


def completion(shell: str) -> str:
    """The completion script for `shell`, one of SHELLS."""
    text: str = shtab.complete(_tree(whole=False), shell)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines()).rstrip("\n") + "\n"


def manual() -> str:
    """lane(1), as man(7) text."""
    about = {"project_name": "lane", "version": lane.__version__, "manual_title": "User Commands"}
    page = Manpage(_tree(whole=True), about, "single-commands-section")
    page.date = ""  # so that a release changes it, and no other day
    page.description = "a tunnel proxy with pluggable transports"
    page.synopsis = ["lane", "[command]", "[options]"]
    page.add_section("environment", "=", f"Each option \\-\\-some\\-name is also {PREFIX}SOME_NAME.")
    page.add_section("files", "=", _FILES)
    page.add_section("exit status", "=", _STATUSES)
    return str(page)


def _tree(*, whole: bool) -> ArgumentParser:
    """All commands as one parser, which parses nothing: others read it.

    `whole`: with the names of groups and values; shells are better served with the options alone, and with
    those of the client also before a command.
    """
    root = ArgumentParser("lane", description=_PURPOSE, formatter_class=_LAYOUT)
    root.add_argument("--version", action="store_true", help="print the version")
    root.add_argument("--print-completion", choices=[*SHELLS], help="print the completions for a shell")
    if not whole:
        _declare(root, "client", whole=False)
    families: dict[str, Any] = {"": root.add_subparsers(title="commands", metavar="command")}
    for command, purpose in COMMANDS.items():
        family, _, name = command.rpartition(" ")
        if family not in families:
            above = families[""].add_parser(family, help=f"see lane {family} --help")
            families[family] = above.add_subparsers(title="commands", metavar="command")
        parser = families[family].add_parser(
            name, help=purpose, usage=f"lane {command} [options]", formatter_class=_LAYOUT
        )
        _declare(parser, command, whole=whole)
    return root


def _declare(parser: ArgumentParser, command: str, *, whole: bool) -> None:
    for group in GROUPS:
        if options := group.of(command):
            add_to = parser.add_argument_group(group.title_of(command)) if whole else parser
            for option in options:
                _add(add_to, option, command)
    if command in WITH_PLUGIN_OPTIONS:
        load().call_each("lane_add_options", group=parser.add_argument_group("options of plugins"))


def _add(group: Any, option: Option, command: str) -> None:
    names = ["-c", f"--{option.name}"] if option.kind == "file" else [f"--{option.name}"]
    text = option.help_of(command).replace("%", "%%")
    if option.kind == "flag":
        group.add_argument(*names, action="store_true", help=text)
        return
    action = group.add_argument(*names, metavar=option.metavar, help=text)
    if option.metavar in _COMPLETE:
        action.complete = _COMPLETE[option.metavar]
