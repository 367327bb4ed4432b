"""The number of spares that a pool should have, computed from how often sessions begin. It has no clock.

A spare saves a session the two or three round trips of a handshake. An application seldom opens just one
connection: a web page opens a dozen at once, and so does the next page. So the number follows the busiest
second of the last minutes, not the mean, and exceeds it, since the next burst may be larger. The busiest
second is forgotten by and by, and after some idle minutes there are no spares.
"""

from math import ceil

COVER = 3
"""Spares for each session that began in the busiest second."""
MOST = 56
"""Maximum number of spares. A server allows an address 64 carriers beyond its sessions."""
HALF_LIFE = 30.0
"""Seconds in which the count of the busiest second decays by half."""
IDLE = 180.0
"""Seconds without a new session after which no spares are kept."""


class Demand:
    """Counts new sessions. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._second = 0  # the second that `_count` belongs to
        self._count = 0
        self._last: float | None = None

    def note(self, now: float) -> None:
        """Count a new session."""
        self._advance(now)
        self._count += 1
        self._last = now

    def spares(self, now: float) -> int:
        """The number of spares to keep: 1 to MOST, or 0 for an idle client."""
        if self._last is None or now - self._last > IDLE:
            return 0
        self._advance(now)
        return max(1, min(MOST, ceil(COVER * max(self._peak, self._count))))

    def _advance(self, now: float) -> None:
        passed = int(now) - self._second
        if passed:
            self._peak = max(self._peak, self._count) * 0.5 ** (passed / HALF_LIFE)
            self._second, self._count = int(now), 0
