"""The options of every command, each declared once, and the places they are read from.

Command line, `LANE_*` variables, files and defaults (in this order) end in one namespace of texts, and
`lane.config` gives the texts their meaning. No option has a type here: only there is it known which
source a bad value came from. Parsing takes two steps, since plugins add options and `--plugin-dir` says
which plugins there are.
"""

import argparse
import glob
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lane import log
from lane.cli.hints import joined, nearest
from lane.cli.sources import (
    PREFIX,
    Parser,
    Syntax,
    given_file,
    open_file,
    standard_files,
    unknown_variables,
    variable,
)
from lane.config import DEFAULT_TRANSPORTS, plugin_dir
from lane.errors import ConfigError, Fatal, UsageError
from lane.plugins import Plugins, describe

COMMANDS = {
    "client": "carry the connections of applications to a server (what lane does without a command)",
    "server": "connect clients to their targets",
    "check": "try the server over each transport and say what was found",
    "why": "say which transport a running client uses, and why",
    "link": "print the link that is all a client needs",
    "plugins": "list the plugins, and what is wrong with those that did not load; or measure a transport",
}
_FILES = {
    "client": ["client.conf"],
    "check": ["client.conf"],
    "why": ["client.conf"],
    "server": ["server.conf"],
    "link": ["server.conf"],
    "plugins": ["client.conf", "server.conf"],
}
WITH_PLUGIN_OPTIONS = ("client", "server", "check", "plugins")
WITHOUT_PLUGINS = ("link", "why")

Warn = Callable[[str], None]


def parse(
    command: str, argv: Sequence[str], warn: Warn, plugins: Plugins | None = None
) -> tuple[Namespace, Plugins]:
    """The options of `command`, and the plugins: those that are given, or else what is there.

    The namespace has the text of each option (None: not given, no default), `files` (the configuration
    files that were read) and `sources` (from option to the Path or the variable it came from; none for
    the command line and defaults). `warn` gets lines for people. Raises UsageError or ConfigError.
    """
    declared = build(command)
    argv = joined(argv, declared.options(), declared.options(valued=True))
    given = given_file(argv)
    # Who asks for help may have a broken file.
    standard = [] if "-h" in argv or "--help" in argv else standard_files(_FILES[command])
    parser = build(command, standard)
    if plugins is None:
        plugins = Plugins()
        if command not in WITHOUT_PLUGINS:
            plugins.discover(_early_plugin_dir(standard, argv))
    if command in WITH_PLUGIN_OPTIONS:
        plugins.call_each("lane_add_options", group=parser.add_argument_group("options of plugins"))
    if command != "plugins":  # that one lists them itself
        for error in plugins.errors:
            warn(str(error))
    known = {name for each in COMMANDS for name in build(each).settings()} | parser.settings().keys()
    for name in unknown_variables(known):
        warn(f"{name} is no option of lane{nearest(name, map(variable, known))}: ignored")
    try:
        namespace, rest = parser.parse_known_args(argv)
    except (Fatal, SystemExit):
        raise
    except Exception as error:  # lane's own options can't fail so
        raise UsageError(f"an option of a plugin: {describe(error)}") from None
    _judge_keys(parser, plugins, warn)
    for argument in rest:
        if argument in argv:  # what is not came from a file, and was judged
            raise UsageError(_unknown(command, argument, parser))
    namespace.files = standard if given is None else [*standard, given]
    namespace.sources = parser.sources()
    if command == "check":
        if "transport" in namespace.sources:
            namespace.transport = "auto"  # the client's choice, not what to check
        namespace = Namespace(**{**vars(defaults("client")), **vars(namespace)})
    return namespace, plugins


def defaults(command: str, **changes: str) -> Namespace:
    """What `parse` gives for an empty command line, with no files and no variables; `changes` are texts."""
    namespace: Namespace = build(command).parse_args([], env_vars={})
    vars(namespace).update(changes, files=[], sources={})
    return namespace


def build(command: str, files: Sequence[Path] = ()) -> Parser:
    """The parser of `command`, which reads `files` and the file of `-c`."""
    where = " and ".join(f"/etc/lane/{name}, ~/.config/lane/{name}" for name in _FILES[command])
    parser = _parser(
        files,
        prog=f"lane {command}",
        usage=f"lane {command} [options]",
        description=f"{COMMANDS[command].capitalize()}.",
        epilog=f"An option --some-name can also be set by the variable {PREFIX}SOME_NAME, or by a line"
        f" `some-name = value` in {where} or the file of -c. The command line wins over variables, they win"
        " over files, and a later file wins over an earlier one.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
        # The other commands read the file of one of these two, and only their part of it.
        ignore_unknown_config_file_keys=command not in ("client", "server"),
    )
    _DECLARE[command](parser)
    return parser


def _parser(files: Sequence[Path], **settings: Any) -> Parser:
    return Parser(
        allow_abbrev=False,
        auto_env_var_prefix=PREFIX,
        add_env_var_help=False,
        add_config_file_help=False,
        config_file_parser_class=Syntax,
        config_file_open_func=open_file,
        default_config_files=[glob.escape(str(file)) for file in files],
        **settings,
    )


def _early_plugin_dir(files: Sequence[Path], argv: Sequence[str]) -> Path | None:
    """The first step: nothing but the folder of plugins, whatever else there is."""
    parser = _parser(files, add_help=False, ignore_unknown_config_file_keys=True)
    _declare_general(parser)
    namespace, _ = parser.parse_known_args(argv)
    namespace.sources = parser.sources()
    return plugin_dir(namespace)


def _judge_keys(parser: Parser, plugins: Plugins, warn: Warn) -> None:
    """An unknown key in a file is an error, unless it may belong to a plugin that did not load."""
    failed = tuple(f"{error.name}-" for error in plugins.errors)
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


def _option(group: Any, name: str, metavar: str, text: str, default: str | None = None) -> None:
    text = f"{text} (default: {default})" if default else text
    group.add_argument(name, metavar=metavar, default=default, help=text)


def _list(group: Any, name: str, metavar: str, text: str) -> None:
    group.add_argument(name, metavar=metavar, action="append", help=text)


def _flag(group: Any, name: str, text: str) -> None:
    group.add_argument(name, metavar="yes", nargs="?", const="yes", default="no", help=text)


def _declare_general(parser: Parser) -> None:
    group = parser.add_argument_group("general")
    group.add_argument(
        "-c", "--config", metavar="FILE", is_config_file_arg=True, help="one more configuration file"
    )
    _option(group, "--plugin-dir", "DIR", "folder with more plugins: *.py files and packages")


def _declare_log(parser: Parser) -> None:
    group = parser.add_argument_group("logging")
    _option(group, "--log-level", "LEVEL", ", ".join(log.LEVELS), "info")
    _option(group, "--log-file", "FILE", "where to log to instead of standard error")


def _declare_limits(parser: Parser, sessions: str, associations: str, request_timeout: str) -> None:
    group = parser.add_argument_group("limits")
    _option(group, "--buffer-size", "SIZE", "most that a session may hold in one direction", "16MB")
    _option(group, "--buffer-total", "SIZE", "what all sessions may hold beyond 256KB each", "512MB")
    _option(group, "--max-sessions", "N", "sessions at once", sessions)
    _option(group, "--max-associations", "N", associations, "1024")
    _option(group, "--request-timeout", "TIME", "from a request to its answer", request_timeout)
    _option(group, "--idle-timeout", "TIME", "until a session with no traffic is ended", "1h")
    _option(group, "--resume-grace", "TIME", "for a session to go on over another connection", "60s")
    _option(group, "--grace", "TIME", "time for sessions to finish when lane is stopped", "10s")


def _declare_connection(parser: Parser, transport: str, transport_help: str) -> None:
    group = parser.add_argument_group("connection to the server")
    _option(group, "--transport", "NAME", transport_help, transport)
    _option(
        group,
        "--server",
        "SERVER",
        "a lane:// link, @FILE with one, HOST:PORT (needs --key), or `embedded`: a server in this process,"
        " which is what runs when nothing is configured",
    )
    _option(group, "--key", "KEY", "key of the user, or @FILE with it (--key=KEY: it may begin with a dash)")
    _option(group, "--ca", "FILE", "certificates that vouch for HOST:PORT (default: the system's)")
    _option(
        group,
        "--server-name",
        "NAME",
        "name in the server's certificate (default: HOST); with a link it is sent (SNI), and proves nothing",
    )
    _option(group, "--dial-timeout", "TIME", "for a connection to the server, at most 10s", "10s")
    _option(
        group,
        "--via",
        "URL",
        "proxy on the way to the server, for transports over TCP: socks5://[USER:PASSWORD@]HOST:PORT,"
        " http://..., or @FILE with it",
    )


def _declare_identity(parser: Parser) -> Any:
    group = parser.add_argument_group("identity")
    _option(
        group,
        "--state-dir",
        "DIR",
        "where certificate and keys are kept (default: $STATE_DIRECTORY or ~/.local/state/lane)",
    )
    _option(group, "--cert", "FILE", "a certificate of your own, PEM, leaf first")
    _option(group, "--cert-key", "FILE", "its private key, PEM")
    _option(group, "--host", "HOST[:PORT]", "where clients reach the server: goes into the link")
    _option(group, "--listen", "[HOST]:PORT", "where all transports listen; no HOST: every address", ":4433")
    return group


def _declare_sockets(group: Any) -> None:
    """Where a client listens."""
    _option(group, "--listen", "HOST:PORT", "where SOCKS5, SOCKS4a and HTTP are spoken", "127.0.0.1:1080")
    _option(
        group,
        "--control",
        "PATH",
        "socket for `lane why`: a path, auto (named after --listen and the network namespace, in"
        " $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/lane or /tmp/lane-UID), or off for none",
        "auto",
    )


def _declare_client(parser: Parser) -> None:
    _declare_connection(
        parser,
        "auto",
        "how to reach the server: auto (what is better now, also in the middle of a connection), quic, tls, a"
        " plugin's, or several of them, separated by commas, to choose from",
    )
    group = parser.add_argument_group("applications")
    _declare_sockets(group)
    _option(group, "--auth", "USER:PASSWORD", "what applications must give, or @FILE with it")
    _flag(group, "--pac", "serve a proxy auto-config file for browsers: http://HOST:PORT/proxy.pac")
    _list(
        group,
        "--forward",
        "FORWARDS",
        "a local port that stands for one target: tcp://HOST:PORT=HOST:PORT or udp://..., or several,"
        " separated by commas",
    )
    _list(
        group,
        "--redirect",
        "[HOST]:PORT",
        "where connections are taken that iptables or nftables redirected, to be carried to where they were"
        " to go (Linux); or several, separated by commas",
    )
    _flag(
        group,
        "--gateway",
        "let --forward and --redirect, which ask for no password, be on addresses that other machines reach",
    )
    _list(
        group,
        "--rule",
        "RULES",
        "which way a target goes: direct, block or lane, then CIDR, DOMAIN or *, each with [:PORT]; the first"
        " that matches counts; or several, separated by commas",
    )
    _option(group, "--rules", "FILE", "more rules, one a line")
    _option(
        group,
        "--fast-open",
        "WHEN",
        "whether an application is told that it is connected before the server has said so, which saves a"
        " round trip: auto (to targets reached lately), on, off",
        "auto",
    )
    _list(
        group,
        "--reverse",
        "FORWARDS",
        "a port on the server that stands for a target near this client: tcp://[HOST]:PORT=HOST:PORT (no"
        " HOST: every address of the server), or several, separated by commas",
    )
    _flag(group, "--no-check", "do not insist that the server answers at the start, keep trying instead")
    _option(group, "--udp-idle-timeout", "TIME", "until a UDP association without packets is ended", "60s")
    _option(
        group,
        "--udp-filter",
        "WHOM",
        "whose packets a UDP association gets: address-dependent (of addresses that it sent to),"
        " endpoint-independent (anyone's)",
        "address-dependent",
    )
    _option(group, "--handshake-timeout", "TIME", "for an application to say what it wants", "10s")
    _declare_limits(parser, "4096", "UDP associations at once", "30s")
    _declare_log(parser)
    _declare_general(parser)


def _declare_server(parser: Parser) -> None:
    group = _declare_identity(parser)
    _flag(group, "--renew", "make anew what the state folder lost, although earlier links stop working")
    names = ",".join(DEFAULT_TRANSPORTS)
    _option(group, "--transport", "NAMES", "what clients may use, separated by commas", names)
    group = parser.add_argument_group("targets")
    rules = "CIDR or DOMAIN, each with [:PORT], separated by commas"
    for name, text in ("--allow", "may be reached although not public"), ("--deny", "never reached"):
        _list(group, name, "RULES", f"{text}: {rules}")
    _list(
        group,
        "--allow-reverse",
        "RULES",
        "where clients may have this server listen: *, or [HOST]:PORT, [HOST]:FIRST-LAST or [HOST]:*,"
        " separated by commas; no HOST: any address (default: nowhere)",
    )
    _flag(group, "--allow-bind", "let applications have this server listen for one connection (SOCKS BIND)")
    _option(group, "--connect-timeout", "TIME", "for a connection to a target", "10s")
    _declare_limits(parser, "10000", "UDP associations at once of one user", "10s")
    group = parser.add_argument_group("limits for clients")
    _option(group, "--max-sessions-per-peer", "N", "sessions at once of one client address", "1024")
    _option(group, "--hello-timeout", "TIME", "until a new stream has proved its key", "10s")
    _option(group, "--spare-timeout", "TIME", "how long a spare stream may wait for its request", "10m")
    _declare_log(parser)
    _declare_general(parser)


def _declare_check(parser: Parser) -> None:
    _declare_connection(parser, "auto", "the only transport to try; auto: all")
    _declare_log(parser)
    _declare_general(parser)


def _declare_why(parser: Parser) -> None:
    _declare_sockets(parser.add_argument_group("the client"))
    group = parser.add_argument_group("what is printed")
    _flag(group, "--json", "all that the client says, as one line of JSON")
    _flag(group, "--follow", "go on, once a second and at each change, until Ctrl-C")
    _declare_general(parser)


def _declare_plugins(parser: Parser) -> None:
    group = parser.add_argument_group("what is printed")
    _option(group, "--measure", "NAME", "what a byte costs over this transport: the value for its `cost`")
    _declare_general(parser)


def _declare_link(parser: Parser) -> None:
    _declare_identity(parser)
    _declare_general(parser)


_DECLARE: dict[str, Callable[[Parser], None]] = {
    "client": _declare_client,
    "server": _declare_server,
    "check": _declare_check,
    "why": _declare_why,
    "link": _declare_link,
    "plugins": _declare_plugins,
}
