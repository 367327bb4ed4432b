"""How fast sessions and users move data, found out between two looks. Nothing is kept while nobody looks."""

from collections.abc import Hashable, Mapping
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

LEAST = 0.5
"""Seconds between two looks, at least. One that comes sooner gets the rates of the last."""
MOST = 10.0
"""Seconds until a look is forgotten."""

Pair = tuple[float, float]
"""Of up and down."""


class Rates(Generic[K]):
    """The rates of some counters. It holds as many as the last look had."""

    def __init__(self) -> None:
        self._at = -inf
        self._counts: Mapping[K, Pair] = {}
        self._rates: dict[K, Pair] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def look(self, now: float, counts: Mapping[K, Pair]) -> Mapping[K, Pair]:
        """The rates since the last look, a second, of those of `counts` that it had. `now`: monotonic."""
        seconds = now - self._at
        if seconds < LEAST:
            return self._rates
        self.forget(now)
        before = self._counts
        self._rates = {
            key: (max(0.0, up - before[key][0]) / seconds, max(0.0, down - before[key][1]) / seconds)
            for key, (up, down) in counts.items()
            if key in before
        }
        self._at, self._counts = now, counts
        return self._rates

    def forget(self, now: float) -> None:
        """Keep nothing if the last look is long ago."""
        if now - self._at > MOST:
            self._counts, self._rates = {}, {}
