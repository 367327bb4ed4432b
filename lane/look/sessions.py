"""Which sessions a view shows, and their fields."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import islice
from typing import Any, Protocol, TypeVar

from lane.address import Address
from lane.look.rates import Pair

MOST = 200
"""The most sessions of a view, and the most users."""
MOST_TEXT = 256
"""Characters of a name. A host name has fewer."""
PACKETS = "UDP"
"""Stands for the target of packets, each of which has its own."""


class Numbered(Protocol):
    """A session of a client or a server."""

    number: int


S = TypeVar("S", bound=Numbered)


def choose(moving: Iterable[S], newest: Callable[[], Iterable[S]], rates: Mapping[int, Pair]) -> list[S]:
    """The sessions that moved most, and then the newest, MOST in all."""

    speeds = {number: one + other for number, (one, other) in rates.items()}
    busiest = nlargest(MOST, speeds, key=speeds.__getitem__)
    shown = {*busiest}
    by_number = {one.number: one for one in moving if one.number in shown}
    found = [by_number[number] for number in busiest if number in by_number]
    others = (one for one in newest() if one.number not in shown)
    return [*found, *islice(others, MOST - len(found))]


def name_of(target: Address | None) -> str:
    """A target as text."""
    return PACKETS if target is None else str(target)[: MOST_TEXT + len(":65535")]


def busiest_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first MOST of rows of several processes, in the order of `choose`."""
    return sorted(rows, key=lambda row: (-row["up_rate"] - row["down_rate"], row.get("age", 0.0)))[:MOST]
