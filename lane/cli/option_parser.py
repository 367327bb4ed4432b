"""The options of a command and their sources.

They are declared from the table in `lane.config.settings`. The command line, `LANE_*` variables, files and
defaults (in this order) give one namespace of texts. `lane.config` parses the texts. Options have no type
here, since only `lane.config` knows the source of a bad value. Parsing takes two steps, since plugins add
options, and `--plugin-dir` determines the plugins.
"""

import argparse
import glob
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lane.cli.commands import COMMANDS
from lane.cli.config_sources import (
    PREFIX,
    Parser,
    Syntax,
    given_file,
    open_file,
    standard_files,
    unknown_variables,
    variable,
)
from lane.cli.hints import joined, nearest
from lane.config import link_parameters, plugin_dir
from lane.config.option import Option, sentence
from lane.config.settings import GROUPS, USERS, WITH_LINK, options_of
from lane.errors import ConfigError, Fatal, UsageError
from lane.text import describe

if TYPE_CHECKING:
    from lane.plugins import Plugins

_FILES = {
    "client": ["client.conf"],
    "check": ["client.conf"],
    "speedtest": ["client.conf"],
    "why": ["client.conf"],
    "server": ["server.conf"],
    "status": ["server.conf"],
    "upgrade": ["server.conf", "client.conf"],
    "diag": ["client.conf", "server.conf"],
    "reload": ["client.conf", "server.conf"],
    "link": ["server.conf"],
    "plugins": ["client.conf", "server.conf"],
    **{command: ["server.conf"] for command in USERS},
}
WITH_PLUGIN_OPTIONS = ("client", "server", "check", "speedtest", "plugins", "diag", "link", *WITH_LINK)
AS_CLIENT = ("check", "speedtest")
"""Commands that try a server as a client would."""

Warn = Callable[[str], None]


def parse(
    command: str, argv: Sequence[str], warn: Warn, plugins: "Plugins | None" = None
) -> tuple[Namespace, "Plugins | None"]:
    """Parse the options of `command`. Return them and the plugins (`plugins`, or else all that are found).

    A command without plugins gets None.

    The namespace has the text of each option (None: not set and no default). `files` are the configuration
    files that were read. `sources` has the Path or the variable of each option, without those from the
    command line and the defaults. `carried` are the plugins' options that a link to this server contains.
    `from_link` are those that the user did not set and that a client's link contains. `warn` is called with
    warnings for the user. Raises UsageError or ConfigError.
    """
    declared = build(command)
    argv = joined(argv, declared.options(), declared.options(valued=True))
    given = given_file(argv)
    # Help must work with a broken file, and so must what describes it.
    helps = "-h" in argv or "--help" in argv or command == "diag"
    standard = [] if helps else standard_files(_FILES.get(command, ()))
    parser = build(command, standard)
    if plugins is None and command in WITH_PLUGIN_OPTIONS:
        from lane.plugins import load  # noqa: PLC0415

        plugins = load(_early_plugin_dir(standard, argv))
    errors = plugins.errors if plugins else []
    if plugins:
        plugins.call_each("lane_add_options", group=parser.add_argument_group("options of plugins"))
    if command not in ("plugins", "diag"):  # they list them themselves
        for error in errors:
            warn(str(error))
    known = {one.name for group in GROUPS for one in group.options} | parser.settings().keys()
    for name in unknown_variables(known):
        warn(f"{name} is no option of lane{nearest(name, map(variable, known))}: ignored")
    namespace, rest = _parse_all(parser, argv)
    parameters = plugins.link_parameters() if plugins else set()
    more = _from_link(namespace, parser, parameters, argv, warn)
    if more:
        namespace, rest = _parse_all(parser, [*argv, *more])
    namespace.from_link = more
    namespace.carried = _carried(namespace, parser, parameters)
    _judge_keys(parser, tuple(f"{error.name}-" for error in errors), warn)
    for argument in rest:
        if argument in argv:  # otherwise it came from a file, which was checked
            raise UsageError(_unknown(command, argument, parser))
    namespace.files = standard if given is None else [*standard, given]
    namespace.sources = parser.sources()
    if command in AS_CLIENT:
        if "transport" in namespace.sources:
            namespace.transport = "auto"  # the client's choice does not limit them
        namespace = Namespace(**{**vars(defaults("client")), **vars(namespace)})
    return namespace, plugins


def defaults(command: str, **changes: str) -> Namespace:
    """The result of `parse` for an empty command line, without files and variables. `changes` are texts."""
    namespace: Namespace = build(command).parse_args([], env_vars={})
    vars(namespace).update(changes, files=[], sources={}, carried=(), from_link=[])
    return namespace


def build(command: str, files: Sequence[Path] = ()) -> Parser:
    """The parser of `command`, which reads `files` and the file of `-c`.

    A command that is not in `_FILES` takes its options from the command line alone.
    """
    where = " and ".join(f"/etc/lane/{name}, ~/.config/lane/{name}" for name in _FILES.get(command, ()))
    names = any(option.kind == "position" for option in options_of(command))
    sources = (
        f"An option --some-name can also be set by the variable {PREFIX}SOME_NAME, or by a line"
        f" `some-name = value` in {where} or the file of -c. The command line wins over variables, they win"
        " over files, and a later file wins over an earlier one."
    )
    parser = _parser(
        files,
        prog=f"lane {command}",
        usage=f"lane {command} {'NAME ' * names}[options]",
        description=sentence(COMMANDS[command]),
        epilog=sources if where else None,
        auto_env_var_prefix=PREFIX if where else None,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
        # The other commands read only some keys in the file of one of these two.
        ignore_unknown_config_file_keys=command not in ("client", "server"),
    )
    declare(parser, command)
    return parser


def declare(parser: Parser, command: str) -> None:
    """Add lane's own options of `command` to `parser`, in the groups of the table."""
    for each in GROUPS:
        if options := each.of(command):
            group = parser.add_argument_group(each.title_of(command))
            for option in options:
                _add(group, option, command)


def _add(group: Any, option: Option, command: str) -> None:
    """Add one option. Its value is a text."""
    names, settings = [f"--{option.name}"], {"metavar": option.metavar, "help": option.help_of(command)}
    match option.kind:
        case "value":
            group.add_argument(*names, default=option.default_of(command), **settings)
        case "list":
            group.add_argument(*names, action="append", **settings)
        case "flag":
            group.add_argument(*names, nargs="?", const="yes", default=option.default_of(command), **settings)
        case "position":
            group.add_argument(option.name, nargs="?", **settings)
        case "file":
            group.add_argument("-c", *names, is_config_file_arg=True, **settings)


def _parser(files: Sequence[Path], **settings: Any) -> Parser:
    return Parser(
        allow_abbrev=False,
        add_env_var_help=False,
        add_config_file_help=False,
        config_file_parser_class=Syntax,
        config_file_open_func=open_file,
        default_config_files=[glob.escape(str(file)) for file in files],
        **settings,
    )


def _early_plugin_dir(files: Sequence[Path], argv: Sequence[str]) -> Path | None:
    """The first step: find only the folder of plugins, and ignore everything else."""
    parser = _parser(files, add_help=False, ignore_unknown_config_file_keys=True, auto_env_var_prefix=PREFIX)
    for option in options_of("plugins"):
        if option.name in ("config", "plugin-dir"):
            _add(parser, option, "plugins")
    namespace, _ = parser.parse_known_args(argv)
    namespace.sources = parser.sources()
    return plugin_dir(namespace)


def _parse_all(parser: Parser, argv: Sequence[str]) -> tuple[Namespace, list[str]]:
    try:
        namespace, rest = parser.parse_known_args(argv)
    except (Fatal, SystemExit):
        raise
    except Exception as error:  # lane's own options raise no such error
        raise UsageError(f"an option of a plugin: {describe(error)}") from None
    return namespace, rest


def _from_link(
    namespace: Namespace, parser: Parser, parameters: set[str], argv: Sequence[str], warn: Warn
) -> list[str]:
    """The plugins' options that only the server's link sets, as command line arguments."""
    set_by_user = parser.sources().keys() | {word.partition("=")[0].removeprefix("--") for word in argv}
    known, found = parser.settings(), []
    for name, value in link_parameters(namespace):
        if name not in parameters or name not in known:
            warn(f"the link's {name} is of a plugin that is not here: ignored")
        elif name not in set_by_user and known[name].dest not in set_by_user:
            found.append(f"--{name}={value}")
    return found


def _carried(namespace: Namespace, parser: Parser, parameters: set[str]) -> tuple[tuple[str, str], ...]:
    """The plugins' options for a link to this server: those that differ from their default."""
    actions = {name: action for name, action in parser.settings().items() if name in parameters}
    values = {name: (getattr(namespace, action.dest), action.default) for name, action in actions.items()}
    return tuple((name, str(value)) for name, (value, default) in sorted(values.items()) if value != default)


def _judge_keys(parser: Parser, failed: tuple[str, ...], warn: Warn) -> None:
    """Raise ConfigError for an unknown key in a file, unless a plugin that did not load may have it.

    The keys of those plugins begin with one of `failed`.
    """
    for path, key in parser.unknown_keys():
        if not key.startswith(failed):
            raise ConfigError(f"{path}: unknown key {key!r}{nearest(key, parser.settings())}")
        warn(f"{path}: {key} is of a plugin that did not load: ignored")


def _unknown(command: str, argument: str, parser: Parser) -> str:
    name = argument.partition("=")[0]  # the rest may be a secret
    if name.startswith("-"):
        others = [other for other in COMMANDS if other != command and name in build(other).options()]
        hint = f", lane {others[0]} has it" if others else nearest(name, parser.options())
        return f"unknown option {name}{hint} (lane {command} --help lists them)"
    if "://" in argument:
        return "a link is given with --server"
    return f"unexpected argument {argument!r} (lane {command} --help lists the options)"
