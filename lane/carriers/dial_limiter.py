"""Whose turn it is to dial: when a lane is lost, thousands of sessions want another stream at once.

They get one after the other, those with data to move first, so that neither the network nor the server has
to take them all in one moment. Who is gone takes no turn: the next one need not wait for it.
"""

import heapq
from collections.abc import Callable
from itertools import count

import gevent
from gevent.event import Event

from lane.supervisor import supervise


class DialLimiter:
    """`rate` turns a second."""

    def __init__(self, rate: float) -> None:
        self._pause = 1 / rate
        self._waiting: list[tuple[bool, int, _Turn]] = []
        self._number = count()
        self._some = Event()
        self._giver = supervise("the giver of turns", self._give)

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, within: float, *, urgent: bool, wanted: Callable[[], bool] = lambda: True) -> bool:
        """Wait for a turn, `within` seconds; the urgent ones come first. Whether there is one.

        `wanted` is asked when it would be given: who wants none any more is told so at once, and costs nobody
        a turn.
        """
        turn = _Turn(wanted)
        heapq.heappush(self._waiting, (not urgent, next(self._number), turn))
        self._some.set()
        try:
            return bool(turn.settled.wait(within)) and turn.given
        finally:
            turn.left = True  # also where it was killed meanwhile

    def close(self) -> None:
        """Give no more turns."""
        self._giver.kill(block=False)

    def _give(self) -> None:
        while True:
            self._some.wait()  # no limit: somebody has to come first
            while self._waiting:
                turn = heapq.heappop(self._waiting)[2]
                if not turn.left and turn.give():
                    gevent.sleep(self._pause)
            self._some.clear()


class _Turn:
    def __init__(self, wanted: Callable[[], bool]) -> None:
        self.settled = Event()
        self.given = False
        self.left = False
        self._wanted = wanted

    def give(self) -> bool:
        """Whether it is of use."""
        try:
            self.given = self._wanted()
        finally:
            self.settled.set()
        return self.given
