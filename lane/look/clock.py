"""The clock of the record: it takes a sample each second, and sees how late the event loop is."""

from collections.abc import Callable
from time import time

import gevent

from lane.supervisor import supervise


class Clock:
    """Calls `take(second)` at the beginning of each second since the epoch, until `close`."""

    def __init__(self, take: Callable[[int], None]) -> None:
        self.lag = 0.0
        """How late the event loop woke up last, seconds."""
        self._take = take
        self._loop = supervise("the record of the last minutes", self._run)

    def close(self) -> None:
        """Stop."""
        self._loop.kill(block=False)

    def _run(self) -> None:
        while True:
            due = int(time()) + 1
            gevent.sleep(max(0.0, due - time()))
            self.lag = max(0.0, time() - due)
            self._take(due)
