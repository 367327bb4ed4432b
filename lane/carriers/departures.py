"""The connections of a client that another process may go on with.

Each names itself here while its session lives. To leave, its session is suspended; the greenlets that wait
for it wake up, and one of them packs what the connection is. Nothing of it is left here then.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from gevent.event import AsyncResult

from lane.carriers.session_driver import SessionDriver
from lane.session.parcel import Elsewhere, Parcel

STOP_TIME = 20.0
"""Seconds that a connection has to stop. It takes a few turns of the event loop, which may be slow ones."""

log = logging.getLogger("lane.handover")

Key = tuple[str, bytes]
"""The name of a session among processes. Its user is always "": a client has only one."""
Goes = Callable[[], tuple[dict[str, Any], list[int]]]
"""What goes with a session: a plain value, whose `kind` says who goes on with it, and descriptors, which are
the caller's then. It is called once, after the session has stopped."""


class Leaver(Protocol):
    """A connection that can leave."""

    @property
    def driver(self) -> SessionDriver:
        """The driver of its session."""

    @property
    def at_once(self) -> bool:
        """Whether it leaves before there is a stream for it: its packets can wait, or be lost."""

    def suspend(self) -> None:
        """Stop here. Its greenlet calls `Departures.end` with the parcel, soon."""


class Departures:
    """`forget` is called with the driver of each session that has left."""

    def __init__(self, forget: Callable[[SessionDriver], None]) -> None:
        self.possible = True
        """Whether any can leave: not if the server ends with this process."""
        self._forget = forget
        self._here: dict[bytes, Leaver] = {}
        self._leaving: dict[bytes, AsyncResult[Parcel | None]] = {}

    def __len__(self) -> int:
        return len(self._here) if self.possible else 0

    def begin(self, one: Leaver) -> None:
        """A connection may leave from now on."""
        self._here[one.driver.key] = one

    def end(self, one: Leaver, parcel: Parcel | None = None) -> None:
        """It may not any more: it has ended, or left as a `parcel`. Idempotent."""
        if parcel is not None:
            self._forget(one.driver)
        if self._here.get(one.driver.key) is one:
            del self._here[one.driver.key]
        waiting = self._leaving.pop(one.driver.key, None)
        if waiting is not None:
            waiting.set(parcel)
        elif parcel is not None:
            log.warning("a connection ends here: it took more than %g s to stop", STOP_TIME)
            parcel.close()

    def ready(self) -> dict[bytes, tuple[bool, bool]]:
        """The sessions that can leave now: whether each moves data, and `Leaver.at_once`.

        A session without an answer of the server to its first request waits for that.
        """
        here = self._here if self.possible else {}
        return {key: (one.driver.active, one.at_once) for key, one in here.items() if one.driver.settled}

    def hand_over(self, key: Key, generation: int) -> Parcel | None:
        """Stop a session here. None if there is no such session, or if it has just ended.

        Raises Elsewhere if it is leaving already.
        """
        _, name = key
        if name in self._leaving:
            raise Elsewhere
        one = self._here.get(name)
        if one is None or not one.driver.settled:
            return None
        waiting = self._leaving[name] = AsyncResult()
        one.suspend()
        parcel: Parcel | None = waiting.wait(STOP_TIME)
        self._leaving.pop(name, None)
        return parcel

    def rest(self) -> Iterator[Parcel]:
        """Stop all that can leave."""
        for name in self.ready():
            if name in self._leaving:
                continue  # the other process has asked for it meanwhile
            if (parcel := self.hand_over(("", name), 0)) is not None:
                yield parcel
