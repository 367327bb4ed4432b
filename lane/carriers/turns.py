"""Whose turn it is to dial: when a lane is lost, thousands of sessions want another stream at once.

They get one after the other, those with data to move first, so that neither the network nor the server has
to take them all in one moment.
"""

import heapq
from itertools import count

import gevent
from gevent.event import Event


class Turns:
    """`rate` turns a second."""

    def __init__(self, rate: float) -> None:
        self._pause = 1 / rate
        self._waiting: list[tuple[bool, int, Event]] = []
        self._number = count()
        self._some = Event()
        self._giver = gevent.spawn(self._give)

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, *, urgent: bool) -> None:
        """Wait for a turn; the urgent ones come first."""
        turn = Event()
        heapq.heappush(self._waiting, (not urgent, next(self._number), turn))
        self._some.set()
        turn.wait()

    def close(self) -> None:
        """Give no more turns."""
        self._giver.kill(block=False)

    def _give(self) -> None:
        while True:
            self._some.wait()
            while self._waiting:
                heapq.heappop(self._waiting)[2].set()
                gevent.sleep(self._pause)
            self._some.clear()
