"""Parsers for the values of lane's own options.

`lane.values` has the parsers that plugins use too. All parsers raise UsageError, with a text that repeats no
secret. The caller adds the name of the option.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lane.address import Address
from lane.errors import TargetError, UsageError
from lane.link import Link, decode, unwrapped
from lane.log import FORMATS, LEVELS
from lane.meeting import Where
from lane.net.names import literal, normal_name
from lane.tally import MOST_WORKERS
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

if TYPE_CHECKING:
    from lane.egress.policy import ListenRule, Rule
    from lane.egress.rules import RouteRule
    from lane.net.steering import Spread
    from lane.via import Via

T = TypeVar("T")
_LABEL = re.compile("[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
parse_limit = within(parse_count, 1, 1_000_000, "1 to 1000000")
parse_time = within(parse_duration, 0.001, 30 * 86400.0, "1ms to 720h")
parse_dial_time = within(parse_duration, 0.1, 10.0, "100ms to 10s")
parse_test_time = within(parse_duration, 0.5, 30.0, "500ms to 30s")
parse_workers = within(parse_count, 1, MOST_WORKERS, f"auto, or 1 to {MOST_WORKERS}")
parse_overlap = within(parse_duration, 0.0, 366 * 86400.0, "0s to 366d")
parse_grace = within(parse_duration, 0.0, 86400.0, "0s to 24h")
parse_buffer_size = within(parse_size, KB, GB, "1KB to 1GB")
parse_buffer_total = within(parse_size, KB, TB, "1KB to 1TB")


def workers(text: str) -> int:
    """A number of workers; auto: the cores that this process may use."""
    if text != "auto":
        return parse_workers(text)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return min(max(len(cores), 1), MOST_WORKERS)


def spread(text: str) -> "Spread":
    """What the workers share out: see `lane.net.steering`."""
    if text == "address":
        return "address"
    if text == "connection":
        return "connection"
    raise UsageError("address or connection")


def each(parse: Callable[[str], T]) -> Callable[[list[str]], tuple[T, ...]]:
    """A parser for an option that may be repeated and that accepts comma-separated lists."""

    def parse_all(texts: list[str]) -> tuple[T, ...]:
        return tuple(parse(part) for text in texts for part in split(text))

    return parse_all


def listening(everywhere: str) -> Callable[[str], Address]:
    """A parser for a listening address, as in `Address.parse`. A port alone gets the host `everywhere`.

    The host `*` means all addresses.
    """

    def parse(text: str) -> Address:
        text = text.strip()
        return Address.parse(f"{everywhere}:{text}" if text.isdecimal() else re.sub(r"^\*(?=:)", "", text))

    return parse


def reachable(text: str) -> Address:
    """Read `HOST` or `HOST:PORT`; without a port it is 0. Raises UsageError."""
    address = Address.parse(text, default_port=0)
    if not address.host:
        raise UsageError("expected HOST or HOST:PORT")
    if literal(address.host) is None and not _is_hostname(address.host):
        raise UsageError(f"{address.host!r} is no host name")
    return address


def host_name(text: str) -> str:
    """The host of a text that `reachable` reads."""
    return reachable(text).host


def _is_hostname(host: str) -> bool:
    """Whether this is a valid host name (RFC 1123 section 2.1). It need not exist in the DNS."""
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
    """Remove line breaks of editors and mails from a link or a key. The name of an `@FILE` is unchanged."""
    return text if text.startswith("@") else unwrapped(text)


def key(text: str) -> bytes:
    """The 32 bytes of a user's key, or of an `@FILE` with it."""
    return inline_or_file(text, _decoded)


def _decoded(text: str) -> bytes:
    try:
        return decode(unwrapped(text))
    except ValueError:
        raise UsageError("malformed key: expected 43 characters of base64url") from None


# What the next ones read belongs to rooms that need a network. Most commands are not given any of it.


def target_rule(text: str) -> "Rule":
    """A rule for targets. See `lane.egress.policy`."""
    from lane.egress.policy import Rule  # noqa: PLC0415

    return Rule.parse(text)


def listen_rule(text: str) -> "ListenRule":
    """A rule for ports on the server. See `lane.egress.policy`."""
    from lane.egress.policy import ListenRule  # noqa: PLC0415

    return ListenRule.parse(text)


def route_rule(text: str) -> "RouteRule":
    """A rule for routes of targets. See `lane.egress.rules`."""
    from lane.egress.rules import RouteRule  # noqa: PLC0415

    return RouteRule.parse(text)


def download(text: str) -> str:
    """The URL of something to download over HTTP."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    try:
        parts = urlsplit(text.strip())
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return text.strip()
    except ValueError:
        pass
    raise UsageError(f"malformed URL {text!r}: expected http://HOST/PATH or https://...")


def via(text: str) -> "Via":
    """The proxy through which the server is reached, or an `@FILE` with its URL."""
    from lane.via import Via  # noqa: PLC0415

    return inline_or_file(text, Via.parse)


def control(text: str) -> Where:
    """The path of the control socket, `auto` or `off`."""
    if text == "auto":
        return "auto"
    return "off" if text == "off" else parse_path(text)


def access_log(text: str) -> Path:
    """The path of the access log. `-`, which is standard output, stays as it is."""
    return Path("-") if text == "-" else parse_path(text)


def admin(text: str) -> Address | Path:
    """The place of the admin port: HOST:PORT, or a path after `unix:`."""
    kind, _, path = text.partition(":")
    if kind == "unix":
        return parse_path(path)
    address = Address.parse(text)
    if not address.host:
        raise UsageError("expected HOST:PORT or unix:PATH")
    return address


def admin_secret(text: str) -> str:
    """The secret of the admin port, or an `@FILE` with it: 16 to 256 characters of ASCII, without spaces."""
    return inline_or_file(text, _admin_secret)


def _admin_secret(text: str) -> str:
    if not 16 <= len(text) <= 256 or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError("expected 16 to 256 printable ASCII characters without spaces")
    return text


def unless(text: str) -> bool:
    """The opposite of a flag: `yes` gives False."""
    return not parse_flag(text)


def one_of(*words: str, expected: str) -> Callable[[str], str]:
    """A parser for one of `words`, in any case. `expected` lists them for error messages."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise UsageError(f"expected {expected}")
        return text.lower()

    return parse


fast_open = one_of("auto", "on", "off", expected="auto, on or off")
log_format = one_of(*FORMATS, expected="text or json")
log_level = one_of(*LEVELS, expected=f"one of {', '.join(LEVELS)}")
_udp_filter = one_of(
    "address-dependent", "endpoint-independent", expected="address-dependent or endpoint-independent"
)


def from_anyone(text: str) -> bool:
    """Whether a UDP filter accepts packets from everybody: `endpoint-independent` (RFC 4787 section 5)."""
    return _udp_filter(text) == "endpoint-independent"
