"""How users share a full uplink: the decision, without I/O and without a clock.

Each connection has a congestion control of its own, and these share a bottleneck by connection: a user with a
hundred TLS connections gets a hundred times as much as one with a single connection. Nobody tells a server
whether its connections share a bottleneck. But it knows what each of them delivers. So the users with more
connections than the one with the fewest are held to equal parts of what all deliver together, a little less
than that, so that they fill no queue. The others are not held: where the bottleneck is the same for all, they
take what is left, and the sum stays. If the sum falls for some seconds, then nobody takes it: it is another
bottleneck, or the others don't want more. Then nobody is held for some time, each time for longer.
"""

from collections.abc import Mapping
from typing import NamedTuple

PART = 0.97
"""Of an equal part, what a user is held to."""
TAKEN = 0.75
"""Of what all delivered before, what they must deliver while some are held."""
SETTLE = 6.0
"""Seconds that the others have to take what the held ones leave: some dozens of round trips."""
SMOOTH = 0.2
"""The weight of the newest sum in the smoothed one. Data arrive in lumps."""
FREE, MOST_FREE = 30.0, 600.0
"""Seconds in which nobody is held if nobody takes it. They double each time, up to the longest."""


class Use(NamedTuple):
    """What a user has who has more to send than goes."""

    connections: int
    """Those with more to send."""
    rate: float
    """Bytes a second that they deliver together."""


class Shares:
    """The shares of the users of one uplink. Times are seconds."""

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._full = 0.0  # bytes a second that all have delivered together
        self._total = 0.0  # what they deliver now, smoothed
        self._taken_at = 0.0  # when that was enough last
        self._free_until = 0.0
        self._free = FREE

    def decide(self, users: Mapping[str, Use], now: float) -> dict[str, float]:
        """Bytes a second that users are held to. `users`: all who have more to send than goes."""
        total = sum(use.rate for use in users.values())
        self._total = self._total + (total - self._total) * SMOOTH if self._total else total
        if users.keys() != self._names:
            self._names = frozenset(users)
            self._full, self._free, self._free_until, self._taken_at = self._total, FREE, 0.0, now
        fewest = min((use.connections for use in users.values()), default=0)
        held = [name for name, use in users.items() if use.connections > fewest]
        if not held or now < self._free_until:
            self._full, self._taken_at = self._total, now
            return {}
        self._full = max(self._full, self._total)
        if self._total >= TAKEN * self._full:
            self._taken_at = now
        elif now - self._taken_at > SETTLE:
            self._free_until, self._free = now + self._free, min(2 * self._free, MOST_FREE)
            return {}
        return dict.fromkeys(held, PART * self._full / len(users))
