"""What single values of lane's own options mean: each parser reads the text of one option.

`lane.values` has the kinds that plugins use too. All parsers raise UsageError, with a text that repeats no
secret; the caller adds which option the value was for.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from lane.address import Address
from lane.control import Where
from lane.errors import TargetError, UsageError
from lane.link import Link, decode, unwrapped
from lane.log import LEVELS
from lane.net.names import literal, normal_name
from lane.values import (
    GB,
    KB,
    TB,
    inline_or_file,
    parse_count,
    parse_duration,
    parse_flag,
    parse_path,
    parse_size,
    split,
    within,
)
from lane.via import Via

T = TypeVar("T")
_LABEL = re.compile("[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
parse_limit = within(parse_count, 1, 1_000_000, "1 to 1000000")
parse_time = within(parse_duration, 0.001, 30 * 86400.0, "1ms to 720h")
parse_dial_time = within(parse_duration, 0.1, 10.0, "100ms to 10s")
parse_grace = within(parse_duration, 0.0, 86400.0, "0s to 24h")
parse_buffer_size = within(parse_size, KB, GB, "1KB to 1GB")
parse_buffer_total = within(parse_size, KB, TB, "1KB to 1TB")


def each(parse: Callable[[str], T]) -> Callable[[list[str]], tuple[T, ...]]:
    """Reads all values of an option that may be repeated, and that takes comma-separated lists."""

    def parse_all(texts: list[str]) -> tuple[T, ...]:
        return tuple(parse(part) for text in texts for part in split(text))

    return parse_all


def listening(everywhere: str) -> Callable[[str], Address]:
    """Reads where to listen, as `Address.parse` does; a port alone is one at the host `everywhere`.

    A host of `*` is every address.
    """

    def parse(text: str) -> Address:
        text = text.strip()
        return Address.parse(f"{everywhere}:{text}" if text.isdecimal() else re.sub(r"^\*(?=:)", "", text))

    return parse


def reachable(text: str) -> Address:
    """`HOST` or `HOST:PORT` (port 0 where there is none). Raises UsageError."""
    address = Address.parse(text, default_port=0)
    if not address.host:
        raise UsageError("expected HOST or HOST:PORT")
    if literal(address.host) is None and not _is_hostname(address.host):
        raise UsageError(f"{address.host!r} is no host name")
    return address


def host_name(text: str) -> str:
    """The host of what `reachable` reads."""
    return reachable(text).host


def _is_hostname(host: str) -> bool:
    """Whether a host can have that name (RFC 1123 section 2.1), which the DNS may not even know."""
    try:
        labels = normal_name(host).split(".")
    except TargetError:
        return False
    return all(map(_LABEL.fullmatch, labels)) and not labels[-1][0].isdigit()


def server_address(text: str) -> Link | Address | None:
    """A link, `@FILE` with one, or `HOST:PORT`; None for `embedded`, a server in this process."""
    if text.strip() == "embedded":
        return None
    if text.startswith("@"):
        return inline_or_file(text, Link.parse)
    return Link.parse(text) if "://" in text else Address.parse(text)


def as_meant(text: str) -> str:
    """A link or a key without the line breaks of editors and mails; the name of an `@FILE` stays."""
    return text if text.startswith("@") else unwrapped(text)


def key(text: str) -> bytes:
    """The 32 bytes of a user's key, or of an `@FILE` with it."""
    return inline_or_file(text, _decoded)


def _decoded(text: str) -> bytes:
    try:
        return decode(unwrapped(text))
    except ValueError:
        raise UsageError("malformed key: expected 43 characters of base64url") from None


def via(text: str) -> Via:
    """The proxy on the way to the server, or an `@FILE` with its URL."""
    return inline_or_file(text, Via.parse)


def control(text: str) -> Where:
    """The path of the control socket, `auto` or `off`."""
    if text == "auto":
        return "auto"
    return "off" if text == "off" else parse_path(text)


def unless(text: str) -> bool:
    """The opposite of a flag: `yes` is False."""
    return not parse_flag(text)


def one_of(*words: str, expected: str) -> Callable[[str], str]:
    """Reads one of `words`, in capitals too; `expected` names them to people."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise UsageError(f"expected {expected}")
        return text.lower()

    return parse


fast_open = one_of("auto", "on", "off", expected="auto, on or off")
log_level = one_of(*LEVELS, expected=f"one of {', '.join(LEVELS)}")
_udp_filter = one_of(
    "address-dependent", "endpoint-independent", expected="address-dependent or endpoint-independent"
)


def from_anyone(text: str) -> bool:
    """Whether a UDP filter lets everybody's packets through: `endpoint-independent` (RFC 4787 section 5)."""
    return _udp_filter(text) == "endpoint-independent"
