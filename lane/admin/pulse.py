"""What the numbers need while nobody asks: how late the event loop is, and a look at the rest."""

from collections.abc import Callable
from time import monotonic

import gevent

from lane.admin.families import LAGS
from lane.server.numbers import Histogram
from lane.supervisor import supervise

BEAT = 1.0
"""Seconds between two looks at the event loop."""
PERIOD = 5.0
"""Seconds between two calls of `work`, at least."""


class Pulse:
    """Watches the event loop, and does the work."""

    def __init__(self) -> None:
        self.lag = Histogram(LAGS)
        """How late the event loop woke up, seconds."""
        self.work: Callable[[], object] = lambda: None
        """Called every PERIOD seconds, or for one percent of the time."""
        self._loops = [supervise("the watch of the event loop", self._beat)]
        self._loops.append(supervise("what is counted now and then", self._look))

    def close(self) -> None:
        """Stop."""
        for loop in self._loops:
            loop.kill(block=False)

    def _beat(self) -> None:
        while True:
            due = monotonic() + BEAT
            gevent.sleep(BEAT)
            self.lag.observe(max(0.0, monotonic() - due))

    def _look(self) -> None:
        pause = PERIOD
        while True:
            gevent.sleep(pause)
            began = monotonic()
            self.work()
            pause = max(PERIOD, 100 * (monotonic() - began))
