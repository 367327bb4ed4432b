"""A rate limit for dials: when a lane is lost, thousands of sessions want another stream at once.

Each session waits for its turn, those with data to move first. So the network and the server do not get all
dials in one moment. A session that has ended takes no turn, and does not delay the next one.
"""

import heapq
from collections.abc import Callable
from itertools import count

import gevent
from gevent.event import Event

from lane.supervisor import supervise

SOON = 0.001
"""Seconds after a turn that needed no dial."""


def _always() -> bool:
    return True


class DialLimiter:
    """Gives at most `rate` turns to dial per second."""

    def __init__(self, rate: float) -> None:
        self._pause = 1 / rate
        self._waiting: list[tuple[bool, int, _Turn]] = []
        self._number = count()
        self._some = Event()
        self._giver = supervise("the giver of turns", self._give)

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(
        self,
        within: float,
        *,
        urgent: bool,
        wanted: Callable[[], bool] = _always,
        dials: Callable[[], bool] = _always,
    ) -> bool:
        """Wait at most `within` seconds for a turn. Returns whether there was one. Urgent callers go first.

        `wanted` is called just before the turn is given. If it returns False, the wait ends without a turn,
        and the next caller gets it. If `dials` returns False then, the caller needs no dial any more, because
        another one has made a carrier that they share. So the next caller gets its turn soon.
        """
        turn = _Turn(wanted, dials)
        heapq.heappush(self._waiting, (not urgent, next(self._number), turn))
        self._some.set()
        try:
            return bool(turn.settled.wait(within)) and turn.given
        finally:
            turn.left = True  # also if the greenlet was killed

    def close(self) -> None:
        """Give no more turns."""
        self._giver.kill(block=False)

    def _give(self) -> None:
        while True:
            self._some.wait()  # no limit: there is nobody to give a turn to
            while self._waiting:
                turn = heapq.heappop(self._waiting)[2]
                if not turn.left:
                    pause = self._pause if turn.dials() else SOON
                    if turn.give():
                        gevent.sleep(pause)
            self._some.clear()


class _Turn:
    def __init__(self, wanted: Callable[[], bool], dials: Callable[[], bool]) -> None:
        self.dials = dials
        self.settled = Event()
        self.given = False
        self.left = False
        self._wanted = wanted

    def give(self) -> bool:
        """Give the turn. Returns whether it is still wanted."""
        try:
            self.given = self._wanted()
        finally:
            self.settled.set()
        return self.given
