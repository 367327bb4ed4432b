"""What the options mean: from the texts that were given to values that are known to be right.

The rest of lane takes these frozen dataclasses and checks nothing again. Where a value came from decides
how a bad one ends: in a file it is a ConfigError that names the file, elsewhere a UsageError that names
the option or variable. No message repeats a key, a link or a password.
"""

import ipaddress
import os
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lane.address import Address
from lane.control import Where, find
from lane.egress.policy import Rule
from lane.errors import ConfigError, Fatal, UsageError
from lane.link import Link, decode
from lane.log import LEVELS
from lane.values import (
    GB,
    KB,
    TB,
    inline_or_file,
    parse_count,
    parse_credentials,
    parse_duration,
    parse_flag,
    parse_names,
    parse_path,
    parse_size,
    split,
    within,
)
from lane.via import Via

T = TypeVar("T")
_count = within(parse_count, 1, 1_000_000, "1 to 1000000")
_time = within(parse_duration, 0.001, 30 * 86400.0, "1ms to 720h")
_dial = within(parse_duration, 0.1, 10.0, "100ms to 10s")
_grace = within(parse_duration, 0.0, 86400.0, "0s to 24h")
_buffer_size = within(parse_size, KB, GB, "1KB to 1GB")
_buffer_total = within(parse_size, KB, TB, "1KB to 1TB")


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How a client runs. Sizes are bytes, times are seconds."""

    transports: tuple[str, ...]
    """Names to choose from, `("auto",)` for what is there; of `lane check`: none for all of them."""
    server: Link | Address | None
    """None: a server in this process."""
    key: bytes | None = field(repr=False)
    """32 bytes; set exactly where `server` is an Address."""
    ca: Path | None
    server_name: str | None
    listen: Address
    credentials: tuple[bytes, bytes] | None = field(repr=False)
    """User and password that applications must give."""
    control: Where
    """The socket for `lane why`."""
    buffer_size: int
    buffer_total: int
    max_sessions: int
    handshake_timeout: float
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
    check: bool
    """Whether the server must answer at the start."""
    plugin_dir: Path | None
    log_level: str
    log_file: Path | None


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How a server runs. Sizes are bytes, times are seconds."""

    listen: Address
    transports: tuple[str, ...]
    state_dir: Path
    cert: Path | None
    cert_key: Path | None
    """Set exactly where `cert` is."""
    host: Address | None
    """Where clients reach the server, for the link; port 0: the one it listens on."""
    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]
    buffer_size: int
    buffer_total: int
    max_sessions: int
    max_sessions_per_peer: int
    hello_timeout: float
    request_timeout: float
    spare_timeout: float
    connect_timeout: float
    idle_timeout: float
    resume_grace: float
    """For how long a session outlives its carrier."""
    grace: float
    plugin_dir: Path | None
    log_level: str
    log_file: Path | None


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """What `lane link` needs: which identity, and where clients reach it."""

    address: Address
    state_dir: Path
    cert: Path | None
    cert_key: Path | None


@dataclass(frozen=True, slots=True)
class WhyConfig:
    """What `lane why` needs."""

    control: Path
    """The socket of the client."""
    json: bool
    follow: bool


def client_config(namespace: Namespace) -> ClientConfig:
    """The client's options, checked. Raises UsageError or ConfigError."""
    options = _Options(namespace)
    server, key = _server(options, namespace)
    listen = options.required("listen", Address.parse)
    credentials = options.optional("auth", lambda text: inline_or_file(text, parse_credentials))
    if credentials is None and not _is_loopback(listen.host):
        raise options.error("listen", f"{listen} can be reached from other machines: that needs auth")
    return ClientConfig(
        transports=options.required("transport", lambda text: parse_names(text) if text.strip() else ()),
        server=server,
        key=key,
        ca=options.optional("ca", parse_path),
        server_name=options.optional("server_name", _host_name),
        credentials=credentials,
        control=options.required("control", _control),
        handshake_timeout=options.required("handshake_timeout", _time),
        dial_timeout=options.required("dial_timeout", _dial),
        fast_open=options.required("fast_open", _fast_open),
        via=options.optional("via", lambda text: inline_or_file(text, Via.parse)),
        check=not options.required("no_check", parse_flag),
        **_common(options, listen),
    )


def server_config(namespace: Namespace) -> ServerConfig:
    """The server's options, checked. Raises UsageError or ConfigError."""
    options = _Options(namespace)
    return ServerConfig(
        transports=options.required("transport", parse_names),
        host=options.optional("host", _reachable),
        allow=options.optional("allow", _rules) or (),
        deny=options.optional("deny", _rules) or (),
        max_sessions_per_peer=options.required("max_sessions_per_peer", _count),
        hello_timeout=options.required("hello_timeout", _time),
        spare_timeout=options.required("spare_timeout", _time),
        connect_timeout=options.required("connect_timeout", _time),
        **_identity(options),
        **_common(options, options.required("listen", Address.parse)),
    )


def link_config(namespace: Namespace) -> LinkConfig:
    """The options of `lane link`, checked. Raises UsageError or ConfigError."""
    options = _Options(namespace)
    host = options.optional("host", _reachable)
    if host is None:
        raise UsageError("pass --host HOST:PORT, where clients reach the server")
    address = host if host.port else host._replace(port=options.required("listen", Address.parse).port)
    if not address.port:
        raise options.error("host", f"{address.host} needs a port: HOST:PORT")
    return LinkConfig(address, **_identity(options))


def why_config(namespace: Namespace) -> WhyConfig:
    """The options of `lane why`, checked. Raises UsageError or ConfigError."""
    options = _Options(namespace)
    listen = options.required("listen", Address.parse)
    control = options.required("control", _control)
    if control == "off":
        raise options.error("control", "a client without a socket can't be asked")
    return WhyConfig(
        control=find(listen) if control == "auto" else control,
        json=options.required("json", parse_flag),
        follow=options.required("follow", parse_flag),
    )


def plugin_dir(namespace: Namespace) -> Path | None:
    """The plugin folder alone, needed before the other options are even known."""
    return _Options(namespace).optional("plugin_dir", parse_path)


class _Options:
    """The texts, each with the place it came from (see `lane.cli.options`)."""

    def __init__(self, namespace: Namespace) -> None:
        self._texts = vars(namespace)

    def optional(self, name: str, parse: Callable[[Any], T]) -> T | None:
        """The value; None where nothing was given and there is no default."""
        text = self._texts[name]
        if text is None:
            return None
        if not "".join(text).isprintable():  # bytes that are no UTF-8, too: they arrive as surrogates
            raise self.error(name, "has characters that cannot be printed")
        try:
            return parse(text)
        except UsageError as error:
            raise self.error(name, str(error)) from None

    def required(self, name: str, parse: Callable[[Any], T]) -> T:
        """The value of an option that has a default."""
        value = self.optional(name, parse)
        assert value is not None
        return value

    def error(self, name: str, message: str) -> Fatal:
        """What to raise for a bad value of `name`."""
        source = self._texts["sources"].get(name)
        key = name.replace("_", "-")
        if isinstance(source, Path):
            return ConfigError(f"{source}: {key}: {message}")
        return UsageError(f"{source or '--' + key}: {message}")


def _common(options: _Options, listen: Address) -> dict[str, Any]:
    """What client and server both have."""
    size = options.required("buffer_size", _buffer_size)
    total = options.required("buffer_total", _buffer_total)
    if total < size:
        raise options.error("buffer_total", "must be at least buffer-size")
    return {
        "listen": listen,
        "buffer_size": size,
        "buffer_total": total,
        "max_sessions": options.required("max_sessions", _count),
        "request_timeout": options.required("request_timeout", _time),
        "idle_timeout": options.required("idle_timeout", _time),
        "resume_grace": options.required("resume_grace", _grace),
        "grace": options.required("grace", _grace),
        "plugin_dir": options.optional("plugin_dir", parse_path),
        "log_level": options.required("log_level", _log_level),
        "log_file": options.optional("log_file", parse_path),
    }


def _identity(options: _Options) -> dict[str, Any]:
    """Where a server's keys and certificate are."""
    cert, cert_key = options.optional("cert", parse_path), options.optional("cert_key", parse_path)
    if (cert is None) != (cert_key is None):
        raise options.error("cert_key" if cert is None else "cert", "cert and cert-key need each other")
    state_dir = options.optional("state_dir", parse_path) or _default_state_dir()
    return {"cert": cert, "cert_key": cert_key, "state_dir": state_dir}


def _server(options: _Options, namespace: Namespace) -> tuple[Link | Address | None, bytes | None]:
    """The server, and the key that goes with it where it is no link."""
    if namespace.server is None and namespace.files:
        raise ConfigError(f"no server: set server in {namespace.files[-1]} or pass --server")
    server = options.optional("server", _server_address)
    key = options.optional("key", lambda text: inline_or_file(text, _key))
    if isinstance(server, Address):
        if key is None:
            raise options.error("server", f"{server} needs a key (a lane:// link has one in it)")
        return server, key
    for name in ("key", "ca", "via") if server is None else ("key", "ca"):
        if getattr(namespace, name) is not None:
            what = "an embedded server" if server is None else "a lane:// link, which says what to trust"
            raise options.error(name, f"does not go with {what}")
    return server, None


def _server_address(text: str) -> Link | Address | None:
    if text.strip() == "embedded":
        return None
    if text.startswith("@"):
        return inline_or_file(text, Link.parse)
    return Link.parse(text) if "://" in text else Address.parse(text)


def _key(text: str) -> bytes:
    try:
        return decode(text)
    except ValueError:
        raise UsageError("malformed key: expected 43 characters of base64url") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _reachable(text: str) -> Address:
    address = Address.parse(text, default_port=0)
    if not address.host:
        raise UsageError("expected HOST or HOST:PORT")
    return address


def _default_state_dir() -> Path:
    """The folder that systemd made for us (systemd.exec), or one in the home (XDG Base Directory)."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return parse_path(given or f"{home}/lane")


def _log_level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise UsageError(f"expected one of {', '.join(LEVELS)}")
    return text.lower()


def _fast_open(text: str) -> str:
    if text.lower() not in ("auto", "on", "off"):
        raise UsageError("expected auto, on or off")
    return text.lower()


def _control(text: str) -> Where:
    if text == "auto":
        return "auto"
    return "off" if text == "off" else parse_path(text)


def _rules(texts: list[str]) -> tuple[Rule, ...]:
    return tuple(Rule.parse(rule) for text in texts for rule in split(text))


def _host_name(text: str) -> str:
    return _reachable(text).host
