"""The spares of a pool: streams on which the client has already sent its proof of the key.

The next sessions take them without a handshake. Some are made because sessions began at once lately
(`lane.carriers.demand`). Others are streams that complete sessions gave back.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from time import monotonic

import gevent

from lane.carriers.lease import Lease, dead
from lane.errors import LaneError
from lane.net.descriptors import reserve
from lane.stream import Carrier
from lane.supervisor import report

log = logging.getLogger("lane.carriers")

LIFE = 240.0
"""Seconds that a spare waits for a session before it is discarded."""
KEPT = 64
"""Maximum number of spares, including streams that sessions gave back."""
MAKERS = 4
"""Maximum number of spares that are made at once. More would slow down the sessions."""
BREATH = 0.25
"""Maximum pause in seconds between two spares of one maker. A distant server gets a dozen dials a second."""
PAUSE = 5.0
"""Seconds without new spares after one could not be made. Sessions still dial."""
ROOM = 16
"""File descriptors that must stay free for new connections. If fewer are, the pool gives up its spares."""
SCARCE = 30.0
"""Seconds without new spares after file descriptors were scarce."""


class Spares:
    """The spares of one pool, oldest first.

    `make` returns a new one, or None if a session took its carrier; it raises LaneError. `wanted` says how
    many the pool should have. `due` is the same, but 0 while none are to be made.
    """

    def __init__(
        self, make: Callable[[], Lease | None], wanted: Callable[[], int], due: Callable[[], int]
    ) -> None:
        self._make = make
        self._wanted = wanted
        self._due = due
        self._kept: deque[tuple[Lease, float]] = deque()  # with the time each became a spare
        self._makers = 0  # number of those that run
        self._paused_until = 0.0  # none are made before this time

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Lease]:
        return (spare for spare, _ in self._kept)

    def take(self) -> Lease | None:
        """One for a session; None if there is none."""
        while self._kept:
            spare, _ = self._kept.pop()  # the newest, with recent path measurements; old ones may expire
            if not dead(spare.carrier):
                return spare
            spare.discard()
        return None

    def taken(self) -> None:
        """Make some if fewer than half are left. Otherwise ending sessions may give streams back first."""
        if len(self._kept) * 2 < self._wanted():
            self.refill()

    def add(self, spare: Lease) -> None:
        """Keep `spare`."""
        self._kept.append((spare, monotonic()))

    def keep(self, spare: Lease, born: Mapping[Carrier, float]) -> Lease | None:
        """Keep `spare`. If there are more than KEPT then, returns the one whose carrier was dialled last.

        `born`: when carriers were dialled. What stays of a crowd was made when it began, so it holds little
        memory in use that is free otherwise.
        """
        self.add(spare)
        if len(self._kept) <= KEPT:
            return None
        number = max(range(len(self._kept)), key=lambda n: born.get(self._kept[n][0].carrier, 0.0))
        youngest, _ = self._kept[number]
        del self._kept[number]
        return youngest

    def discard(self) -> None:
        """Discard all."""
        while self._kept:
            self._kept.popleft()[0].discard()

    def sweep(self) -> None:
        """Discard those that are dead, old or more than wanted, and make missing ones.

        If file descriptors are scarce, all are more than wanted.
        """
        scarce = not reserve.has(ROOM)
        if scarce:
            self._paused_until = monotonic() + SCARCE
        oldest, surplus = monotonic() - LIFE, len(self._kept) - (0 if scarce else self._wanted())
        for number, (spare, since) in enumerate(list(self._kept)):
            if number < surplus or since < oldest or dead(spare.carrier):
                self._kept.remove((spare, since))
                spare.discard()
        self.refill()

    def refill(self) -> None:
        """Start makers for the missing ones."""
        while monotonic() >= self._paused_until and self._makers < min(MAKERS, self._due() - len(self._kept)):
            self._makers += 1
            gevent.spawn(self._make_some)

    def _make_some(self) -> None:
        try:
            while monotonic() >= self._paused_until and self._makers <= self._due() - len(self._kept):
                began = monotonic()
                if (spare := self._make()) is not None:
                    self.add(spare)
                    gevent.sleep(min(BREATH, 3 * (monotonic() - began)))
        except LaneError as error:
            log.debug("no spare: %s", error)
            self._paused_until = monotonic() + PAUSE
        except Exception as error:
            report("the maker of spares", error)
            self._paused_until = monotonic() + PAUSE
        finally:
            self._makers -= 1
