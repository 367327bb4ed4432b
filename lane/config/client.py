"""The configuration of a client, and of `lane why`."""

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lane.address import Address
from lane.config.listeners import Forward, Reverse, is_loopback
from lane.config.option_reader import Options, check_admin, check_buffers
from lane.config.parsers import as_meant, server_address
from lane.errors import ConfigError, UsageError
from lane.link import Link
from lane.meeting import Where, find

if TYPE_CHECKING:
    from lane.egress.rules import RouteRule
    from lane.via import Via


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The configuration of a client. Sizes are bytes, times are seconds."""

    transports: tuple[str, ...]
    """The names to choose from; `("auto",)` for all that are installed."""
    server: Link | Address | None
    """None: a server in this process."""
    key: bytes | None = field(repr=False)
    """32 bytes; set only if `server` is an Address."""
    ca: Path | None
    server_name: str | None
    listen: Address
    credentials: tuple[bytes, bytes] | None = field(repr=False)
    """The user and the password that applications must send."""
    pac: bool
    """Whether to serve a proxy auto-config file."""
    forwards: tuple[Forward, ...]
    """Local ports with one target each."""
    redirects: tuple[Address, ...]
    """The addresses at which connections arrive that the kernel redirected."""
    rules: "tuple[RouteRule, ...]"
    """The rules before those in `rules_file`."""
    rules_file: Path | None
    control: Where
    """The socket for `lane why`."""
    buffer_size: int
    buffer_total: int
    max_sessions: int
    max_associations: int
    handshake_timeout: float
    udp_idle_timeout: float
    udp_anyone: bool
    """Whether associations receive packets from addresses to which they sent nothing."""
    dial_timeout: float
    request_timeout: float
    idle_timeout: float
    resume_grace: float
    """Seconds for which a session outlives its carrier."""
    grace: float
    upgrade_timeout: float
    """Seconds for connections that can't go to the new process at an upgrade."""
    fast_open: str
    """auto, on or off: see `lane.carriers.connector.FastOpen`."""
    via: "Via | None"
    """The proxy through which the server is reached."""
    reverses: tuple[Reverse, ...]
    check: bool
    """Whether the client ends if the server does not answer at the start."""
    plugin_dir: Path | None
    admin: Address | Path | None
    """Where it answers Prometheus: a port, or a socket of the file system."""
    admin_secret: str | None = field(repr=False)
    log_level: str
    log_file: Path | None
    log_format: str
    """`text` or `json`."""


@dataclass(frozen=True, slots=True)
class WhyConfig:
    """The configuration of `lane why`."""

    control: Path
    """The socket of the client."""
    json: bool
    follow: bool


def client_config(namespace: Namespace) -> ClientConfig:
    """Check the client's options. Raises UsageError or ConfigError."""
    if namespace.server is None and namespace.files:
        raise ConfigError(f"no server: set server in {namespace.files[-1]} or pass --server")
    options = Options(namespace, "client")
    server, key = _server(options, namespace)
    listen, credentials = options.value("listen"), options.value("auth")
    if credentials is None and not is_loopback(listen.host):
        raise options.error("listen", f"{listen} can be reached from other machines: that needs auth")
    values = options.values(but=("server", "key", "listen", "auth", "gateway"))
    config = ClientConfig(server=server, key=key, listen=listen, credentials=credentials, **values)
    for forward in config.forwards:
        _check_reach(options, "forward", forward.listen)
    for listen in config.redirects:
        _check_reach(options, "redirect", listen)
    check_buffers(options, config.buffer_size, config.buffer_total)
    check_admin(options, config.admin, config.admin_secret)
    return config


def why_config(namespace: Namespace) -> WhyConfig:
    """Check the options of `lane why`. Raises UsageError or ConfigError."""
    options = Options(namespace, "why")
    control = options.value("control")
    if control == "off":
        raise options.error("control", "a client without a socket can't be asked")
    listen = options.value("listen")
    return WhyConfig(
        control=find(listen) if control == "auto" else control,
        json=options.value("json"),
        follow=options.value("follow"),
    )


def _server(options: Options, namespace: Namespace) -> tuple[Link | Address | None, bytes | None]:
    """The server, and its key unless the server is a link."""
    server, key = options.value("server"), options.value("key")
    if isinstance(server, Address):
        if key is None:
            raise options.error("server", f"{server} needs a key (a lane:// link has one in it)")
        return server, key
    for name in ("key", "ca", "via") if server is None else ("key", "ca"):
        if getattr(namespace, name) is not None:
            what = "an embedded server" if server is None else "a lane:// link, which says what to trust"
            raise options.error(name, f"does not go with {what}")
    return server, None


def _check_reach(options: Options, name: str, listen: Address) -> None:
    """Check that a port with a fixed target listens on loopback only, unless `gateway` is set.

    A proxy port can ask for a password, but a port with a fixed target cannot.
    """
    if not is_loopback(listen.host) and not options.value("gateway"):
        message = f"{listen} can be reached from other machines, and asks for no password: that needs gateway"
        raise options.error(name, message)


def link_parameters(namespace: Namespace) -> tuple[tuple[str, str], ...]:
    """The plugins' options in the server's link. Empty if it is not a link, or malformed."""
    text = getattr(namespace, "server", None)
    try:
        server = server_address(as_meant(text.strip())) if text else None
    except (UsageError, ConfigError):
        return ()  # the error is reported when all options are read
    return server.parameters if isinstance(server, Link) else ()
