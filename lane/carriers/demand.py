"""How many spares should stand by, from how often sessions begin: a pure object, its clock is its caller's.

A spare saves a session the two or three round trips of a handshake, and an application seldom opens one
connection alone: a web page opens a dozen at once, and so does the next page. What counts is therefore
the busiest second lately, not the mean, and some more, since the next burst may be a larger one. It fades,
and after some idle minutes nothing stands by.
"""

from math import ceil

COVER = 3
"""Spares for each session that began in the busiest second."""
MOST = 56
"""Spares at most; a server allows an address 64 carriers beside its sessions."""
HALF_LIFE = 30.0
"""Seconds in which half of what the busiest second called for is forgotten."""
IDLE = 180.0
"""Seconds without a new session until no spare is kept."""


class Demand:
    """Times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._second = 0  # which one `_count` is of
        self._count = 0
        self._last: float | None = None

    def note(self, now: float) -> None:
        """A session begins."""
        self._advance(now)
        self._count += 1
        self._last = now

    def spares(self, now: float) -> int:
        """How many should stand by: 1 to MOST, 0 for who is idle."""
        if self._last is None or now - self._last > IDLE:
            return 0
        self._advance(now)
        return max(1, min(MOST, ceil(COVER * max(self._peak, self._count))))

    def _advance(self, now: float) -> None:
        passed = int(now) - self._second
        if passed:
            self._peak = max(self._peak, self._count) * 0.5 ** (passed / HALF_LIFE)
            self._second, self._count = int(now), 0
