"""What the options of a client mean, and those of `lane why`, which asks one."""

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

from lane.address import Address
from lane.config.listeners import Forward, Reverse, is_loopback
from lane.config.option_reader import Options, check_buffers
from lane.config.parsers import as_meant, server_address
from lane.control import Where
from lane.egress.rules import RouteRule
from lane.errors import ConfigError, UsageError
from lane.link import Link
from lane.meeting import find
from lane.via import Via


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How a client runs. Sizes are bytes, times are seconds."""

    transports: tuple[str, ...]
    """Names to choose from, `("auto",)` for what is there."""
    server: Link | Address | None
    """None: a server in this process."""
    key: bytes | None = field(repr=False)
    """32 bytes; set exactly where `server` is an Address."""
    ca: Path | None
    server_name: str | None
    listen: Address
    credentials: tuple[bytes, bytes] | None = field(repr=False)
    """User and password that applications must give."""
    pac: bool
    """Whether there is a proxy auto-config file."""
    forwards: tuple[Forward, ...]
    """Local ports that stand for one target each."""
    redirects: tuple[Address, ...]
    """Where connections arrive that the kernel redirected."""
    rules: tuple[RouteRule, ...]
    """Those that come before the ones in `rules_file`."""
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
    """Whether associations get packets of addresses to which nothing was sent."""
    dial_timeout: float
    request_timeout: float
    idle_timeout: float
    resume_grace: float
    """For how long a session outlives its carrier."""
    grace: float
    fast_open: str
    """auto, on or off: see `lane.carriers.connector.FastOpen`."""
    via: Via | None
    """The proxy on the way to the server."""
    reverses: tuple[Reverse, ...]
    check: bool
    """Whether the server must answer at the start."""
    plugin_dir: Path | None
    log_level: str
    log_file: Path | None


@dataclass(frozen=True, slots=True)
class WhyConfig:
    """What `lane why` needs."""

    control: Path
    """The socket of the client."""
    json: bool
    follow: bool


def client_config(namespace: Namespace) -> ClientConfig:
    """The client's options, checked. Raises UsageError or ConfigError."""
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
    return config


def why_config(namespace: Namespace) -> WhyConfig:
    """The options of `lane why`, checked. Raises UsageError or ConfigError."""
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
    """The server, and the key that goes with it where it is no link."""
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
    """A proxy port asks for a password; ports that know their target by themselves have no way to.

    So these listen on loopback only, unless it was said that other machines may use them.
    """
    if not is_loopback(listen.host) and not options.value("gateway"):
        message = f"{listen} can be reached from other machines, and asks for no password: that needs gateway"
        raise options.error(name, message)


def link_parameters(namespace: Namespace) -> tuple[tuple[str, str], ...]:
    """What the server's link says of the options of plugins; nothing where it is no link, or malformed."""
    text = getattr(namespace, "server", None)
    try:
        server = server_address(as_meant(text.strip())) if text else None
    except (UsageError, ConfigError):
        return ()  # that is told when all is read
    return server.parameters if isinstance(server, Link) else ()
