"""What options each command has, and what `--help` says of them."""

from collections.abc import Callable
from typing import Any

from lane import log
from lane.cli.config_sources import Parser
from lane.config import DEFAULT_TRANSPORTS


def _option(group: Any, name: str, metavar: str, text: str, default: str | None = None) -> None:
    text = f"{text} (default: {default})" if default else text
    group.add_argument(name, metavar=metavar, default=default, help=text)


def _list(group: Any, name: str, metavar: str, text: str) -> None:
    group.add_argument(name, metavar=metavar, action="append", help=text)


def _flag(group: Any, name: str, text: str) -> None:
    group.add_argument(name, metavar="yes", nargs="?", const="yes", default="no", help=text)


def declare_general(parser: Parser) -> None:
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
    declare_general(parser)


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
    declare_general(parser)


def _declare_check(parser: Parser) -> None:
    _declare_connection(parser, "auto", "the only transport to try; auto: all")
    _declare_log(parser)
    declare_general(parser)


def _declare_why(parser: Parser) -> None:
    _declare_sockets(parser.add_argument_group("the client"))
    group = parser.add_argument_group("what is printed")
    _flag(group, "--json", "all that the client says, as one line of JSON")
    _flag(group, "--follow", "go on, once a second and at each change, until Ctrl-C")
    declare_general(parser)


def _declare_plugins(parser: Parser) -> None:
    group = parser.add_argument_group("what is printed")
    _option(group, "--measure", "NAME", "what a byte costs over this transport: the value for its `cost`")
    declare_general(parser)


def _declare_link(parser: Parser) -> None:
    _declare_identity(parser)
    declare_general(parser)


DECLARE: dict[str, Callable[[Parser], None]] = {
    "client": _declare_client,
    "server": _declare_server,
    "check": _declare_check,
    "why": _declare_why,
    "link": _declare_link,
    "plugins": _declare_plugins,
}
