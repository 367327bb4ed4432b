"""What the options of a client mean, and those of `lane why`, which asks one."""

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

from lane.address import Address
from lane.config.listeners import Forward, forwards, is_loopback, redirects
from lane.config.option_reader import Options, common, listening, reachable, time
from lane.config.reverse import Reverse, parse_reverses
from lane.control import Where
from lane.egress.rules import RouteRule
from lane.errors import ConfigError, UsageError
from lane.link import Link, decode, unwrapped
from lane.meeting import find
from lane.values import (
    inline_or_file,
    parse_credentials,
    parse_duration,
    parse_flag,
    parse_names,
    parse_path,
    split,
    within,
)
from lane.via import Via

_dial = within(parse_duration, 0.1, 10.0, "100ms to 10s")


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
    options = Options(namespace)
    server, key = _server(options, namespace)
    listen = options.required("listen", listening("127.0.0.1"))
    credentials = options.secret("auth", parse_credentials)
    if credentials is None and not is_loopback(listen.host):
        raise options.error("listen", f"{listen} can be reached from other machines: that needs auth")
    return ClientConfig(
        transports=options.required("transport", parse_names),
        server=server,
        key=key,
        ca=options.optional("ca", parse_path),
        server_name=options.optional("server_name", _host_name),
        credentials=credentials,
        pac=options.required("pac", parse_flag),
        forwards=forwards(options),
        redirects=redirects(options),
        rules=options.optional("rule", _rules) or (),
        rules_file=options.optional("rules", parse_path),
        control=options.required("control", _control),
        handshake_timeout=options.required("handshake_timeout", time),
        udp_idle_timeout=options.required("udp_idle_timeout", time),
        udp_anyone=options.required("udp_filter", _udp_filter) == "endpoint-independent",
        dial_timeout=options.required("dial_timeout", _dial),
        fast_open=options.required("fast_open", _fast_open),
        via=_via(options),
        reverses=options.optional("reverse", parse_reverses) or (),
        check=not options.required("no_check", parse_flag),
        **common(options, listen),
    )


def why_config(namespace: Namespace) -> WhyConfig:
    """The options of `lane why`, checked. Raises UsageError or ConfigError."""
    options = Options(namespace)
    listen = options.required("listen", listening("127.0.0.1"))
    control = options.required("control", _control)
    if control == "off":
        raise options.error("control", "a client without a socket can't be asked")
    return WhyConfig(
        control=find(listen) if control == "auto" else control,
        json=options.required("json", parse_flag),
        follow=options.required("follow", parse_flag),
    )


def _server(options: Options, namespace: Namespace) -> tuple[Link | Address | None, bytes | None]:
    """The server, and the key that goes with it where it is no link."""
    if namespace.server is None and namespace.files:
        raise ConfigError(f"no server: set server in {namespace.files[-1]} or pass --server")
    server = options.optional("server", _server_address, _as_meant)
    if isinstance(server, Link):
        options.keep_secret("server")
    key = options.secret("key", _key, _as_meant)
    if isinstance(server, Address):
        if key is None:
            raise options.error("server", f"{server} needs a key (a lane:// link has one in it)")
        return server, key
    for name in ("key", "ca", "via") if server is None else ("key", "ca"):
        if getattr(namespace, name) is not None:
            what = "an embedded server" if server is None else "a lane:// link, which says what to trust"
            raise options.error(name, f"does not go with {what}")
    return server, None


def link_parameters(namespace: Namespace) -> tuple[tuple[str, str], ...]:
    """What the server's link says of the options of plugins; nothing where it is no link, or malformed."""
    text = getattr(namespace, "server", None)
    try:
        server = _server_address(_as_meant(text.strip())) if text else None
    except (UsageError, ConfigError):
        return ()  # that is told when all is read
    return server.parameters if isinstance(server, Link) else ()


def _via(options: Options) -> Via | None:
    via = options.optional("via", lambda text: inline_or_file(text, Via.parse))
    if via and via.credentials:
        options.keep_secret("via")
    return via


def _server_address(text: str) -> Link | Address | None:
    if text.strip() == "embedded":
        return None
    if text.startswith("@"):
        return inline_or_file(text, Link.parse)
    return Link.parse(text) if "://" in text else Address.parse(text)


def _as_meant(text: str) -> str:
    """A link or a key may have been wrapped; names of files stay."""
    return text if text.startswith("@") else unwrapped(text)


def _key(text: str) -> bytes:
    try:
        return decode(unwrapped(text))
    except ValueError:
        raise UsageError("malformed key: expected 43 characters of base64url") from None


def _udp_filter(text: str) -> str:
    if text.lower() not in ("address-dependent", "endpoint-independent"):
        raise UsageError("expected address-dependent or endpoint-independent")
    return text.lower()


def _rules(texts: list[str]) -> tuple[RouteRule, ...]:
    return tuple(RouteRule.parse(rule) for text in texts for rule in split(text))


def _fast_open(text: str) -> str:
    if text.lower() not in ("auto", "on", "off"):
        raise UsageError("expected auto, on or off")
    return text.lower()


def _control(text: str) -> Where:
    if text == "auto":
        return "auto"
    return "off" if text == "off" else parse_path(text)


def _host_name(text: str) -> str:
    return reachable(text).host
