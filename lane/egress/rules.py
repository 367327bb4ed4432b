"""Which way a target goes from a client: through lane, directly, or nowhere. The first matching rule says.

A list of a hundred thousand domains is common, and each connection asks. So there is no walk through the
rules: whatever could match a target (its name and the domains above it, or the networks around its
address) is looked up, and the earliest rule that was found counts.

Names are never resolved for this. Whoever watches the client's name server must not learn from a rule
what was to go through lane: a network matches those targets only that are given as addresses.
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
"""Bytes of a file with rules."""

EVERYWHERE = "*"

Place = str | tuple[int, int, int]
"""A domain; a network as IP version, length and the bits that it fixes; or EVERYWHERE."""


class Action(Enum):
    """What becomes of a connection."""

    DIRECT = "direct"
    """It leaves from this machine."""
    BLOCK = "block"
    LANE = "lane"


class RouteRule(NamedTuple):
    """Targets at a place, on a port or (None) on every port, and what becomes of them."""

    action: Action
    place: Place
    port: int | None
    text: str
    """As it was written."""

    @classmethod
    def parse(cls, text: str) -> "RouteRule":
        """Read `ACTION PATTERN`: direct, block or lane; then what `Rule.parse` reads, `*` or `*:PORT`.

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
    """Rules in their order."""

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
        """The first rule that matches."""
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
        """What a rule may name that matches `host`."""
        yield EVERYWHERE
        if address := literal(host):
            for length in self._lengths[address.version]:
                yield _network(address, length)
            return
        try:
            name = normal_name(host)
        except TargetError:
            return  # what is no name has no domain
        while name:
            yield name
            name = name.partition(".")[2]


def read_rules(path: Path) -> Iterator[RouteRule]:
    """The rules of a file: one a line, `#` begins a comment. Raises ConfigError, which names the line.

    A long file takes a second or two. Other greenlets have their turns meanwhile.
    """
    try:
        if not path.is_file():  # what can be read once only can't be read again
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
