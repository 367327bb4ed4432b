"""All options of lane's commands, in one table.

`lane.cli.option_parser` declares the options from it, `lane.config.option_reader` parses their values with
it, and `lane.cli.reference` generates conf/*.conf and docs/OPTIONS.md from it. Plugins declare their own
options (see `lane.hookspecs`).
"""

from collections.abc import Iterator
from typing import Any

from lane import log
from lane.address import Address
from lane.config import parsers as read
from lane.config.listeners import Forward, Reverse
from lane.config.option import Group, Option
from lane.link import Link
from lane.users import limits
from lane.users.account import check_name
from lane.values import inline_or_file, parse_credentials, parse_flag, parse_names, parse_path

DEFAULT_TRANSPORTS = ("quic", "tls")
"""The transports that a server offers by default: those that ship with lane."""

BOTH = ("client", "server")
WITH_LINK = ("user add", "user link", "user rotate-key")
"""The commands for users that print a link."""
OF_ONE = (*WITH_LINK, "user show", "user set", "user disable", "user enable", "user remove", "kick")
USERS = (*OF_ONE, "user list")
"""The commands for users."""
_LISTS = "separated by commas"
_TARGETS = f"CIDR or DOMAIN, each with [:PORT], {_LISTS}"
_LOOPBACK, _EVERYWHERE = read.listening("127.0.0.1"), read.listening("")


def _always(_: Any) -> bool:
    return True


GROUPS = (
    Group("connection to the server", ("client", "check", "speedtest"), (
        Option("transport", "NAME", parse_names,
               {"client": "how to reach the server: auto (the better one now, changed even during a"
                f" connection), quic, tls, a plugin's, or several to choose from, {_LISTS}",
                "check": f"the transports to try, {_LISTS}; auto or each: all",
                "speedtest": f"the transports to measure, {_LISTS}; auto or each: all"},
               default="auto", field="transports"),
        Option("server", "SERVER", read.server_address,
               "a lane:// link, @FILE with one, HOST:PORT (needs --key), or `embedded`: a server in this"
               " process, which is the default",
               tidy=read.as_meant, secret=lambda server: isinstance(server, Link),
               example="embedded", counts=True,
               comment="A lane:// link, @FILE that holds one, HOST:PORT (needs key), or embedded: a server in"
               " this process. Embedded traffic leaves from this machine. Put the link that `lane server`"
               " printed here instead. A link is a secret: only you may read this file, or the @FILE (chmod"
               " 600)."),
        Option("key", "KEY", read.key,
               "key of the user, or @FILE with it (--key=KEY: it may begin with a dash)",
               tidy=read.as_meant, secret=_always, example="@/etc/lane/key",
               comment="With server = HOST:PORT only. The key of the user, or @FILE that holds it."),
        Option("ca", "FILE", parse_path, "certificates that vouch for HOST:PORT (default: the system's)",
               live=("client",), example="/etc/lane/ca.pem"),
        Option("server-name", "NAME", read.host_name,
               "name in the server's certificate (default: HOST); with a link it is only sent (SNI) and not"
               " checked",
               example="proxy.example.com"),
        Option("dial-timeout", "TIME", read.parse_dial_time,
               "for a connection to the server, at most 10s", default="10s",
               comment="How long it may take to connect to the server, at most 10s."),
        Option("via", "URL", read.via,
               "proxy to reach the server through, for transports over TCP:"
               " socks5://[USER:PASSWORD@]HOST:PORT, http://..., or @FILE with it",
               secret=lambda via: via.credentials is not None, example="socks5://127.0.0.1:9050"),
    )),
    Group("which one", ("reload",), (
        Option("client", "yes", parse_flag, "the client (default: the server)", kind="flag"),
    )),
    Group(
        {
            "client": "applications",
            **dict.fromkeys(("why", "open", "diag", "reload", "top", "upgrade"), "the client"),
        },
        ("client",), (
        Option("listen", "HOST:PORT", _LOOPBACK,
               "address of the proxy port for SOCKS5, SOCKS4a and HTTP",
               default=dict.fromkeys(("client", "why", "reload"), "127.0.0.1:1080"),
               commands=("client", "why", "reload", "top", "upgrade"),
               comment={"client": "The address of the proxy port for SOCKS5, SOCKS4a and HTTP. An address"
                        " that is not loopback needs auth."}),
        Option("control", "PATH", read.control,
               "socket for `lane why`: a path, auto (named after --listen and the network namespace, in"
               " $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/lane or /tmp/lane-UID), or off for none",
               default=dict.fromkeys(("client", "why", "diag", "reload"), "auto"),
               commands=("client", "why", "open", "diag", "reload", "top", "upgrade"),
               comment="The socket for `lane why`: a path, auto (client-PORT.sock in $RUNTIME_DIRECTORY,"
               " $XDG_RUNTIME_DIR/lane or /tmp/lane-UID), or off for none."),
        Option("auth", "USER:PASSWORD", lambda text: inline_or_file(text, parse_credentials),
               "user and password that applications must send, or @FILE with them",
               field="credentials", live=("client",), secret=_always, example="@/etc/lane/auth",
               comment="USER:PASSWORD that applications must send, or @FILE that holds it."),
        Option("pac", "yes", parse_flag,
               "serve a proxy auto-config file for browsers: http://HOST:PORT/proxy.pac",
               kind="flag",
               comment="A proxy auto-config file for browsers, at http://HOST:PORT/proxy.pac of the address"
               " of listen. It needs no password."),
        Option("forward", "FORWARDS", read.each(Forward.parse),
               "a local port that stands for one target: tcp://HOST:PORT=HOST:PORT or udp://..., or several,"
               f" {_LISTS}",
               kind="list", field="forwards",
               example="tcp://127.0.0.1:8080=intranet.example.com:80",
               comment="Local ports that stand for one target each: tcp://HOST:PORT=HOST:PORT or udp://...,"
               f" {_LISTS}. A connection to such a port reaches its target."),
        Option("redirect", "[HOST]:PORT", read.each(Address.parse),
               "address for connections that iptables or nftables redirected; each reaches its original"
               f" target (Linux); or several, {_LISTS}",
               kind="list", field="redirects",
               example="127.0.0.1:1081, [::1]:1081",
               comment="Addresses for connections that iptables or nftables redirected (Linux),"
               f" {_LISTS}. Each connection reaches its original target."),
        Option("gateway", "yes", parse_flag,
               "allow --forward and --redirect, which ask for no password, on addresses that other machines"
               " can reach",
               kind="flag",
               comment="Allow forward and redirect, which ask for no password, on addresses that other"
               " machines can reach."),
        Option("rule", "RULES", read.each(read.route_rule),
               "route of a target: direct, block or lane, then CIDR, DOMAIN or *, each with [:PORT]; the"
               f" first match counts; or several, {_LISTS}",
               kind="list", field="rules", live=("client",),
               example="direct 192.168.0.0/16, direct intranet.example.com, block *:25",
               comment=f"Routes of targets, {_LISTS}: direct (from this machine), block, or lane, then CIDR,"
               " DOMAIN or *, each with [:PORT]. The first match counts. Without a match it is lane."),
        Option("rules", "FILE", parse_path, "more rules, one a line",
               field="rules_file", live=("client",),
               example="/etc/lane/client.rules",
               comment="A file with more rules, one a line. They come after those of rule."),
        Option("fast-open", "WHEN", read.fast_open,
               "tell an application that it is connected before the server has answered, which saves a"
               " round trip: auto (for targets that were reached recently), on, off",
               default="auto",
               comment="Tell an application that it is connected before the server has answered, which"
               " saves a round trip: auto (for targets that were reached recently), on, off. A later failure"
               " resets the connection."),
        Option("reverse", "FORWARDS", read.each(Reverse.parse),
               "a port on the server that stands for a target near this client: tcp://[HOST]:PORT=HOST:PORT"
               f" (no HOST: every address of the server), or several, {_LISTS}",
               kind="list", field="reverses",
               example="tcp://:9000=127.0.0.1:3000",
               comment="Ports on the server that stand for one target near this client each:"
               f" tcp://[HOST]:PORT=HOST:PORT (no HOST: every address of the server), {_LISTS}. A connection"
               " to such a port reaches its target. The server has to allow that (allow-reverse)."),
        Option("no-check", "yes", read.unless,
               "start even if the server does not answer, and keep trying",
               kind="flag", field="check"),
        Option("udp-idle-timeout", "TIME", read.parse_time,
               "time until a UDP association without packets ends", default="60s",
               comment="How long a UDP association without packets lasts."),
        Option("udp-filter", "WHOM", read.from_anyone,
               "packets that a UDP association receives: address-dependent (from addresses that it sent to),"
               " endpoint-independent (from anyone)",
               default="address-dependent", field="udp_anyone"),
        Option("handshake-timeout", "TIME", read.parse_time,
               "time for an application to send its request", default="10s",
               comment="How long an application may take to send its request."),
    )),
    Group("user", OF_ONE, (
        Option("name", "NAME", check_name, "the user; -- NAME if it begins with a dash", kind="position"),
    )),
    Group("account", ("user add", "user set"), (
        Option("expires", "WHEN", limits.parse_expiry,
               "end of the account: 30d (from now; s, m, h, d, w, y), 2026-12-31, 2026-12-31 18:00, or none"),
        Option("quota", "SIZE/month", limits.parse_quota,
               "bytes a calendar month (UTC), up and down together: 100GB/month, or none"),
        Option("rate", "RATE", limits.parse_rate,
               "speed of all connections together, up and down each: 50mbit (kbit, mbit, gbit), or none"),
        Option("sessions", "N", limits.parse_most, "connections of applications at once, or none"),
        Option("devices", "N", limits.parse_most, "devices at once, whatever their addresses are, or none"),
        Option("note", "TEXT", str.strip, "a text of yours"),
    )),
    Group("what is printed", ("user add", "user link"), (
        Option("qr", "yes", parse_flag, "print the link as a QR code as well",
               kind="flag", commands=("user link", "user rotate-key")),
        Option("png", "FILE", parse_path, "write the link as a QR code to this image, for your eyes only",
               commands=WITH_LINK),
    )),
    Group("identity", ("server", "link", *WITH_LINK), (
        Option("state-dir", "DIR", parse_path,
               "where certificate and accounts are kept (default: $STATE_DIRECTORY or ~/.local/state/lane)",
               commands=("server", "link", "status", "open", "upgrade", "diag", "reload", "top", *USERS),
               example="/var/lib/lane",
               comment="The folder for the certificate and the accounts; without this, $STATE_DIRECTORY or"
               " ~/.local/state/lane. Nobody else may write to the folder or read the files in it."),
        Option("accounts", "WHERE", lambda text: inline_or_file(text, str.strip),
               "where the accounts of users are: file (in the state folder), redis://HOST/0, the URL of a"
               " panel, what a plugin knows, or @FILE with one of these",
               default="file", commands=("server", *USERS), secret=lambda where: "@" in where,
               comment="Where the accounts of users are: file (accounts.db in state-dir), redis://HOST/0, the"
               " URL of a panel (http://HOST/PATH), what a plugin knows, or @FILE with one of these."
               " docs/USERS.md says more."),
        Option("cert", "FILE", parse_path, "a certificate of your own, PEM, leaf first",
               live=("server",), example="/etc/lane/cert.pem",
               comment="A certificate of your own (PEM, leaf first). Without it, lane makes one."),
        Option("cert-key", "FILE", parse_path, "its private key, PEM",
               live=("server",), example="/etc/lane/key.pem",
               comment="The private key of cert (PEM), which only you and a group may read."),
        Option("cert-overlap", "TIME", read.parse_overlap,
               "how long links from before keep working when the certificate's key changes (0s: not at all)",
               default="7d", commands=("server",), live=("server",),
               comment="How long links keep working when a running server's certificate is replaced by one"
               " with another key. 0s: not at all."),
        Option("host", "HOST[:PORT]", read.reachable, "where clients reach the server: goes into the link",
               example="proxy.example.com",
               comment="Where clients reach the server, for the link; without a port, the one of listen."),
        Option("listen", "[HOST]:PORT", _EVERYWHERE,
               "where all transports listen; no HOST: every address", default=":4433",
               comment="Where all transports listen. No host, or [::]: every address, IPv4 and IPv6; a name:"
               " all its addresses."),
        Option("renew", "yes", parse_flag,
               "make missing files of the state folder again, although earlier links stop working",
               kind="flag", commands=("server",),
               comment="Make missing files in state-dir again. The links that clients have stop working"
               " then."),
        Option("transport", "NAMES", parse_names,
               f"what clients may use, {_LISTS}", default=",".join(DEFAULT_TRANSPORTS),
               commands=("server",), field="transports"),
    )),
    Group("processes", ("server",), (
        Option("workers", "N", read.workers,
               "processes that share the work (Linux): a number, or auto for one on each core",
               default="1",
               comment="Processes that share the work (Linux): a number, or auto for one on each core."),
        Option("spread", "WHAT", read.spread,
               "what the processes share out: address (all of a client's connections go to one), connection"
               " (for crowds behind one address)",
               default="address",
               comment="What the processes share out: address (all of a client's connections go to one of"
               " them), or connection (for crowds behind one address)."),
    )),
    Group("targets", ("server",), (
        Option("allow", "RULES", read.each(read.target_rule),
               f"may be reached although not public: {_TARGETS}",
               kind="list", live=("server",), example="10.1.0.0/16, intranet.example.com:443",
               comment=f"Targets that may be reached although they are not public: {_TARGETS}. Other targets"
               " that are not public, or that are addresses of this machine, are refused."),
        Option("deny", "RULES", read.each(read.target_rule), f"never reached: {_TARGETS}",
               kind="list", live=("server",), example="tracker.example.com",
               comment=f"Targets that are never reached: {_TARGETS}. This comes before allow."),
        Option("allow-reverse", "RULES", read.each(read.listen_rule),
               "where clients may have this server listen: *, or [HOST]:PORT, [HOST]:FIRST-LAST or [HOST]:*,"
               f" {_LISTS}; no HOST: any address (default: nowhere)",
               kind="list", live=("server",), example=":9000, 127.0.0.1:8000-8999",
               comment="Where clients may have this server listen for them: *, or [HOST]:PORT,"
               f" [HOST]:FIRST-LAST or [HOST]:*, {_LISTS}. Without HOST: on any address, also on all of them."
               " Nothing is allowed unless it is listed here."),
        Option("allow-bind", "yes", parse_flag,
               "let applications have this server listen for one connection (SOCKS BIND)",
               kind="flag", live=("server",),
               comment="Whether applications may have this server listen on a free port for one connection"
               " from a peer that they name (SOCKS BIND)."),
        Option("connect-timeout", "TIME", read.parse_time,
               "time to connect to a target", default="10s", live=("server",),
               comment="How long it may take to connect to a target."),
    )),
    Group("limits", BOTH, (
        Option("buffer-size", "SIZE", read.parse_buffer_size,
               "the most memory of a session in one direction", default="16MB",
               comment="The most that one session may hold in one direction."),
        Option("buffer-total", "SIZE", read.parse_buffer_total,
               "the most memory of all sessions, beyond 256KB each", default="512MB",
               comment="The most that all sessions together may hold, beyond 256KB each."),
        Option("max-sessions", "N", read.parse_limit,
               "sessions at once", default={"client": "4096", "server": "10000"}),
        Option("max-associations", "N", read.parse_limit,
               {"client": "UDP associations at once", "server": "UDP associations at once of one user"},
               default="1024"),
        Option("request-timeout", "TIME", read.parse_time,
               {"client": "time for the answer to a request",
                "server": "time for the request of a new stream"},
               default={"client": "30s", "server": "10s"}, live=("server",),
               comment={"client": "How long the answer to a request may take.",
                        "server": "How long the request of a new stream may take to arrive."}),
        Option("idle-timeout", "TIME", read.parse_time,
               "time until a session without traffic ends", default="1h",
               comment="How long a session without traffic lasts."),
        Option("resume-grace", "TIME", read.parse_grace,
               "time for a session to continue over another connection", default="60s",
               comment="How long a session may wait for another connection on which to continue."),
        Option("grace", "TIME", read.parse_grace,
               "time for sessions to finish when lane is stopped", default="10s", live=BOTH,
               comment="How long sessions may take to finish when lane is stopped."),
        Option("upgrade-timeout", "TIME", read.parse_grace,
               {"server": "time for clients to move to the new process at an upgrade",
                "client": "time for connections that can't go to the new process at an upgrade"},
               default="30s",
               comment={"server": "How long clients may take to move to the new process at an upgrade.",
                        "client": "How long connections that can't go to the new process at an upgrade may"
                        " take to end: docs/UPGRADE.md says which."}),
        Option("handover", "PATH", parse_path,
               "a socket on which another process may take the place of this one", commands=("server",),
               example="/run/lane/handover.sock",
               comment="A socket on which another process may take the place of this one, with its sessions:"
               " docs/UPGRADE.md. For containers, where lane upgrade cannot start a process."),
    )),
    Group("limits for clients", ("server",), (
        Option("max-sessions-per-peer", "N", read.parse_limit,
               "sessions at once of one client address", default="1024"),
        Option("hello-timeout", "TIME", read.parse_time,
               "time for a new stream to prove its key", default="10s", live=("server",),
               comment="How long a new stream may take to prove its key."),
        Option("spare-timeout", "TIME", read.parse_time,
               "how long a spare stream may wait for its request", default="10m", live=("server",)),
    )),
    Group("service", ("service install", "service remove"), (
        Option("client", "yes", parse_flag, "the service of the client, which is the default", kind="flag"),
        Option("server", "yes", parse_flag, "the service of the server", kind="flag"),
        Option("dry-run", "yes", parse_flag, "change nothing, and say what would be done", kind="flag"),
    )),
    Group("what is tried", (), (
        Option("deep", "yes", parse_flag,
               "look closer, for some 20 s: UDP, packet sizes, loss, clocks, certificate, kernel settings",
               kind="flag", commands=("check",)),
        Option("seconds", "TIME", read.parse_test_time, "how long data flow in each direction",
               default="5s", commands=("speedtest",)),
        Option("direct", "URL", read.download, "a download to measure without lane, too: http:// or https://",
               example="https://example.com/100MB", commands=("speedtest",)),
    )),
    Group("what is printed", (), (
        Option("json", "yes", parse_flag, "print the whole answer, as one line of JSON",
               kind="flag", commands=("why", "status", "upgrade", "reload", "speedtest", "top", *USERS)),
        Option("once", "yes", parse_flag, "print one frame and end, without colours in a pipe",
               kind="flag", commands=("top",)),
        Option("follow", "yes", parse_flag, "keep printing, once a second and at each change, until Ctrl-C",
               kind="flag", commands=("why",)),
        Option("print", "yes", parse_flag, "print the address of the page, and start no browser",
               kind="flag", commands=("open",)),
        Option("measure", "NAME", str.strip,
               "measure the CPU time a byte over this transport: the value for its `cost`",
               commands=("plugins",)),
    )),
    Group("administration", BOTH, (
        Option("admin", "WHERE", read.admin,
               {**dict.fromkeys(BOTH, "answer browsers and Prometheus at HOST:PORT, or at the socket"
                                " unix:PATH (/, /metrics, /healthz, /readyz)"),
                "open": "the admin port, instead of asking for it"},
               commands=(*BOTH, "open"), example="127.0.0.1:9433",
               comment={"client": "Answer browsers (lane open) and Prometheus at HOST:PORT, or at the socket"
                        " unix:PATH: /, /metrics, /healthz and /readyz. An address that is not loopback needs"
                        " admin-secret.",
                        "server": "Answer browsers (lane open), Prometheus and panels at HOST:PORT, or at the"
                        " socket unix:PATH: /, /metrics, /healthz, /readyz and more, see docs/METRICS.md. An"
                        " address that is not loopback needs admin-secret."}),
        Option("admin-secret", "SECRET", read.admin_secret,
               "what requests to --admin must send in the header Authorization, or @FILE with it",
               live=BOTH, secret=_always, example="@/etc/lane/admin-secret",
               comment="What requests to admin must send in the header Authorization, or @FILE that holds it:"
               " at least 16 characters."),
    )),
    Group("logging", (*BOTH, "check", "speedtest"), (
        Option("log-level", "LEVEL", read.log_level, ", ".join(log.LEVELS), default="info", live=BOTH,
               comment=f"How much is logged: {', '.join(log.LEVELS[:-1])} or {log.LEVELS[-1]}."),
        Option("log-file", "FILE", parse_path, "log to this file instead of standard error", live=BOTH,
               example={command: f"/var/log/lane-{command}.log" for command in BOTH}),
        Option("log-format", "FORMAT", read.log_format,
               {"client": "how lines of the log are written: text, or json (an object per line)",
                "server": "how lines of the log and of the access log are written: text, or json (an object"
                " per line)"}, default="text", live=BOTH, commands=BOTH),
        Option("access-log", "FILE|-", read.access_log,
               "write a line for each session at its end to this file, or to standard output (-)",
               live=("server",), commands=("server",), example="/var/log/lane-access.log",
               comment="Write a line for each session at its end to this file, or to standard output (-):"
               " who, from where, the target, bytes, seconds, and how it ended. docs/METRICS.md has all"
               " fields."),
    )),
    Group(
        "general",
        (
            *BOTH, "check", "speedtest", "why", "link", "status", "upgrade", "reload", "diag", "plugins",
            *USERS,
        ), (
        Option("config", "FILE", str, "one more configuration file", kind="file"),
        Option("plugin-dir", "DIR", parse_path, "folder with more plugins: *.py files and packages",
               example="/etc/lane/plugins",
               comment="A folder with more plugins: *.py files and packages. Nobody else may be able to write"
               " to it."),
    )),
)  # fmt: skip


def options_of(command: str) -> Iterator[Option]:
    """The options of `command`, in the order of its `--help`."""
    for group in GROUPS:
        yield from group.of(command)


LIVE = {
    command: frozenset(one.dest for one in options_of(command) if command in one.live) for command in BOTH
}
"""The options that are read again on SIGHUP, with the files that they name, by command."""
