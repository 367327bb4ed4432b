"""The client's routing rules: through lane, directly, or not at all. The first matching rule decides.

A list of a hundred thousand domains is common, and each connection is looked up in it. So the rules are not
scanned. Each key that could match the target is looked up: its name and the domains above it, or the networks
around its address. The earliest rule among the matches decides.

Names are never resolved for this, so that an observer of the client's name server learns nothing about
traffic that goes through lane. A network rule therefore matches only targets that are given as addresses.
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

from lane.address import Address
from lane.egress.policy import Rule, parse_port
from lane.errors import ConfigError, TargetError, UsageError
from lane.fair import maybe_yield
from lane.files import read_text
from lane.net.names import literal, normal_name

MAX_RULES = 100_000
MAX_FILE = 4 << 20
"""The largest file of rules, in bytes."""

EVERYWHERE = "*"

Place = str | tuple[int, int, int]
"""A domain; a network as IP version, prefix length and prefix bits; or EVERYWHERE."""


class Action(Enum):
    """What is done with a connection."""

    DIRECT = "direct"
    """The connection leaves from this machine."""
    BLOCK = "block"
    LANE = "lane"


class RouteRule(NamedTuple):
    """An action for the targets at a place, on one port (None: every port)."""

    action: Action
    place: Place
    port: int | None
    text: str
    """The rule as it was written."""

    @classmethod
    def parse(cls, text: str) -> "RouteRule":
        """Read `ACTION PATTERN`: direct, block or lane; then a pattern of `Rule.parse`, `*` or `*:PORT`.

        Raises UsageError.
        """
        words = text.split()
        if len(words) != 2:
            raise UsageError(f"malformed rule {text!r}: expected direct, block or lane, and a pattern")
        word, pattern = words
        if word.lower() not in _ACTIONS:
            raise UsageError(f"malformed rule {text!r}: expected direct, block or lane, not {word!r}")
        place: Place = EVERYWHERE
        if pattern == EVERYWHERE or pattern.startswith("*:"):
            port = parse_port(text, pattern[2:] or "*")
        else:
            rule = Rule.parse(pattern)
            port = rule.port
            if rule.network is not None:
                place = _network(rule.network.network_address, rule.network.prefixlen)
            elif rule.domain is not None:
                place = rule.domain
        return cls(_ACTIONS[word.lower()], place, port, f"{word} {pattern}")


_ACTIONS = {action.value: action for action in Action}


class RouteTable:
    """An ordered list of rules, indexed for fast look-up."""

    def __init__(self, rules: Iterable[RouteRule] = ()) -> None:
        self._first: dict[tuple[Place, int | None], tuple[int, RouteRule]] = {}
        self._lengths: dict[int, set[int]] = {4: set(), 6: set()}
        for number, rule in enumerate(rules):
            self._first.setdefault((rule.place, rule.port), (number, rule))
            if isinstance(rule.place, tuple):
                version, length, _ = rule.place
                self._lengths[version].add(length)

    def __len__(self) -> int:
        return len(self._first)

    def find(self, target: Address) -> RouteRule | None:
        """The first rule that matches `target`; None if none does."""
        if not self._first:
            return None
        found = [
            entry
            for place in self._places(target.host)
            for port in (target.port, None)
            if (entry := self._first.get((place, port)))
        ]
        return min(found)[1] if found else None

    def _places(self, host: str) -> Iterator[Place]:
        """Every place that a rule matching `host` can name."""
        yield EVERYWHERE
        if address := literal(host):
            for length in self._lengths[address.version]:
                yield _network(address, length)
            return
        try:
            name = normal_name(host)
        except TargetError:
            return  # not a name, so it has no domain
        while name:
            yield name
            name = name.partition(".")[2]


def read_rules(path: Path) -> Iterator[RouteRule]:
    """Read the rules of a file, one per line; `#` begins a comment. Raises ConfigError, which names the line.

    A long file takes a second or two. Other greenlets run meanwhile.
    """
    try:
        if not path.is_file():  # a pipe, for example, can't be read again on reload
            raise ConfigError(f"cannot read {path}: {'not a file' if path.exists() else 'no such file'}")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    found = 0
    for number, line in enumerate(read_text(path, MAX_FILE).split("\n"), 1):
        text = line.partition("#")[0].strip()
        if text:
            found += 1
            if found > MAX_RULES:
                raise ConfigError(f"{path}:{number}: more than {MAX_RULES} rules")
            try:
                yield RouteRule.parse(text)
            except UsageError as error:
                raise ConfigError(f"{path}:{number}: {error}") from None
        maybe_yield()


def _network(address: IPv4Address | IPv6Address, length: int) -> tuple[int, int, int]:
    return address.version, length, int(address) >> address.max_prefixlen - length
