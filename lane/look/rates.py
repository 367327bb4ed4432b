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
"""Of both directions, in one order everywhere."""


class Rates(Generic[K]):
    """The rates of some counters. It holds as many as the last look had."""

    def __init__(self) -> None:
        self._at = -inf
        self._counts: Mapping[K, Pair] = {}
        self._rates: dict[K, Pair] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def look(self, now: float, counts: Mapping[K, Pair]) -> Mapping[K, Pair]:
        """The rates since the last look, a second, of those of `counts` that moved. `now`: monotonic."""
        seconds = now - self._at
        if seconds < LEAST:
            return self._rates
        self.forget(now)
        before, rates = self._counts, {}
        for key, pair in counts.items():  # there may be thousands
            was = before.get(key, pair)
            if pair != was:
                one, other = pair[0] - was[0], pair[1] - was[1]
                rates[key] = (one / seconds if one > 0 else 0.0, other / seconds if other > 0 else 0.0)
        self._rates = rates
        self._at, self._counts = now, counts
        return self._rates

    def forget(self, now: float) -> None:
        """Keep nothing if the last look is long ago."""
        if now - self._at > MOST:
            self._counts, self._rates = {}, {}
