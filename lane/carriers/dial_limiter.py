"""A limit for dials: when a lane is lost, thousands of sessions want another stream at once.

Each session waits for its turn, those that stand still first, then those with data to move. So the network
and the server do not get all dials and requests in one moment: a server that answers late would be asked
again and again. A few are under way at once, so those that succeed set the pace. Where they do not, turns
come at a fixed rate. A session that has ended takes no turn, and does not delay the next one.
"""

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import gevent
from gevent.event import Event

from lane.supervisor import supervise

AT_ONCE = 8
"""Dials under way, from which on turns come at the fixed rate. A server allows an address 64 carriers beyond
its sessions, and a pool may have 56 spares."""
REQUESTS = 32
"""The same for requests, those with dials included."""


def _always() -> bool:
    return True


class DialLimiter:
    """Gives turns: at most `rate` per second while AT_ONCE dials or REQUESTS requests are under way."""

    def __init__(self, rate: float) -> None:
        self._pause = 1 / rate
        self._waiting: list[tuple[int, int, _Turn]] = []
        self._number = count()
        self._some = Event()
        self._requests: set[_Turn] = set()  # under way
        self._dials: set[_Turn] = set()  # those of them that dial
        self._ended = Event()  # one of them has
        self._giver = supervise("the giver of turns", self._give)

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def turn(
        self,
        within: float,
        *,
        urgent: int,
        wanted: Callable[[], bool] = _always,
        dials: Callable[[], bool] = _always,
    ) -> Iterator[bool]:
        """Wait at most `within` seconds for a turn: whether there was one. The most urgent callers go first.

        The request is under way for the time of the context.

        `wanted` is called just before the turn is given. If it returns False, the wait ends without a turn,
        and the next caller gets it. If `dials` returns False then, the caller needs no dial any more, because
        another one has made a carrier that they share. So the next caller gets its turn at once.
        """
        turn = _Turn(wanted, dials)
        heapq.heappush(self._waiting, (-urgent, next(self._number), turn))
        self._some.set()
        try:
            yield bool(turn.settled.wait(within)) and turn.given
        finally:
            turn.left = True  # also if the greenlet was killed
            self._requests.discard(turn)
            self._dials.discard(turn)
            self._ended.set()

    def close(self) -> None:
        """Give no more turns."""
        self._giver.kill(block=False)

    def _give(self) -> None:
        while True:
            self._some.wait()  # no limit: there is nobody to give a turn to
            while self._waiting:
                turn = heapq.heappop(self._waiting)[2]
                if not turn.left:
                    dials = turn.dials()
                    if turn.give():
                        self._requests.add(turn)
                        if dials:
                            self._dials.add(turn)
                        self._rest()
            self._some.clear()

    def _rest(self) -> None:
        """Wait until it is time for the next turn."""
        if len(self._dials) < AT_ONCE and len(self._requests) < REQUESTS:
            gevent.sleep(0)  # the caller takes its stream
        else:
            self._ended.clear()
            self._ended.wait(self._pause)


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
