"""How users share a full uplink or a busy process: the decisions, without I/O and without a clock.

Each connection has a congestion control of its own, and these share a bottleneck by connection: a user with a
hundred TLS connections gets a hundred times as much as one with a single connection. Nobody tells a server
whether its connections share a bottleneck. But it knows what each of them delivers. So the users with more
connections than the one with the fewest are held to equal parts of what all deliver together, a little less
than that, so that they fill no queue. The others are not held: where the bottleneck is the same for all, they
take what is left, and the sum stays. If the sum falls for some seconds, then nobody takes it: it is another
bottleneck, or the others don't want more. Then nobody is held for some time, each time for longer. If the sum
does not come back then, it was the bottleneck itself that has become narrower, and they are held again.

Where the process is busy, it is the bottleneck of all its users, and it knows. Congestion control keeps to
rates that it once had, though, so whoever had more goes on with more. So all users have one
ceiling (`Ceiling`), which sinks to their average while the process is busy, and rises while it is not.
"""

from collections.abc import Mapping
from math import inf
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

BACK = 1.15
"""Of what all deliver when nobody is held any more, what they must deliver soon after."""
SINK, RISE = 0.9, 1.1
"""By what the ceiling changes at each look."""
HEADROOM = 1.15
"""The lowest ceiling, in averages: more than one, so that the average can grow."""
GONE = 2.0
"""A ceiling so many times above the fastest user is none."""


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
        self._free_until = self._freed_at = 0.0
        self._freed_total = 0.0  # what they delivered then
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
        if now < self._free_until and self._narrower(now):
            self._free, self._free_until = FREE, 0.0
        if not held or now < self._free_until:
            self._full, self._taken_at = self._total, now
            return {}
        self._full = max(self._full, self._total)
        if self._total >= TAKEN * self._full:
            self._taken_at = now
        elif now - self._taken_at > SETTLE:
            self._free_until, self._free = now + self._free, min(2 * self._free, MOST_FREE)
            self._freed_at, self._freed_total = now, self._total
            return {}
        return dict.fromkeys(held, PART * max(self._total, TAKEN * self._full) / len(users))

    def _narrower(self, now: float) -> bool:
        """Whether to hold nobody has not brought more."""
        return now - self._freed_at > SETTLE and self._total < BACK * self._freed_total


class Ceiling:
    """What each user of a busy process may have."""

    def __init__(self) -> None:
        self._value = inf

    def decide(self, rates: Mapping[str, float], *, busy: bool) -> float:
        """Bytes a second. `rates`: of all users who have more to send than goes; `busy`: in these moments."""
        if len(rates) < 2 or not (most := max(rates.values())):
            self._value = inf
            return inf
        lowest = HEADROOM * sum(rates.values()) / len(rates)
        if busy and most > lowest:
            self._value = max(min(self._value, most) * SINK, lowest)
        else:
            self._value = self._value * RISE if self._value < GONE * most else inf
        return self._value
