"""A timer of the event loop that is moved all the time.

Nearly each packet moves the time of the next thing to do, mostly to a later one. That is not worth a system
call: the alarm then rings too early, and whoever it wakes sets it again.
"""

from collections.abc import Callable
from math import inf
from typing import Any

import gevent


class Alarm:
    """Calls `ring`, from the event loop, at the time that it is set to."""

    __slots__ = ("_hub", "_ring", "_timer", "at")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._hub: Any = gevent.get_hub()
        self._ring = ring
        self._timer: Any = None
        self.at: float | None = None
        """When it will ring, on the monotonic clock; None if it was not set since it rang."""

    def set(self, at: float | None, now: float) -> None:
        """Ring at `at` or earlier. None: it need not ring."""
        if at is None or (self.at is not None and self.at <= at):
            return
        if self._timer is not None:
            self._timer.close()
        self.at = at
        self._timer = self._hub.loop.timer(max(0.0, at - now))
        self._timer.start(self._fire, update=True)

    def _fire(self) -> None:
        self.at = None
        self._ring()

    def close(self) -> None:
        """Never ring again, whatever it is set to."""
        self.at = -inf
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        del self._ring
