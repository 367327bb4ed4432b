"""How a server parts with its clients when another process takes its place: it asks them to move.

They make other connections, which lead to the new process, and that asks this one for their sessions
(`lane.handover.exchange`).
"""

import logging
from collections.abc import Iterator
from math import inf
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.event import Event

from lane.fair import maybe_yield
from lane.server.requests import Requests
from lane.session.parcel import Parcel
from lane.session.registry import Registry
from lane.stream import Carrier, Listener, Pauses

LOOK = 0.1
"""Seconds between two looks for carriers without sessions."""
ASK_AGAIN = 2.0
"""Seconds without a session that moves, after which clients are asked again."""
AT_ONCE = 64
"""Clients that are asked before a short pause, so that they do not all come at once."""
PAUSE = 0.02
"""That pause in seconds."""
LAST_WORDS = 1.0
"""Seconds for the last bytes of a carrier."""

log = logging.getLogger("lane.handover")


class Carriers(Protocol):
    """What this needs of `lane.server.server`."""

    requests: Requests

    def unused(self) -> list[Carrier]:
        """The carriers that carry nothing."""

    def part(self) -> None:
        """Close all carriers."""


class ServerParting:
    """Parts `server` from its clients, which may stay for `timeout` seconds: see `Parting`."""

    def __init__(
        self, server: Carriers, registry: Registry, listeners: list[Listener], timeout: float
    ) -> None:
        self._server = server
        self._registry = registry
        self._listeners = listeners
        self._timeout = timeout
        self._until = 0.0

    def hurry(self) -> None:
        """See `Parting`."""
        self._until = 0.0

    def rest(self) -> Iterator[Parcel]:
        """See `Parting`."""
        self._server.part()
        return self._server.requests.hand_over_all()

    def pause(self) -> None:
        """See `Parting`."""
        for listener in self._listeners:
            if isinstance(listener, Pauses):
                listener.pause()
            else:
                listener.close()

    def resume(self) -> None:
        """See `Parting`."""
        self._server.requests.stay()
        for listener in self._listeners:
            if isinstance(listener, Pauses):
                listener.resume()
            else:
                log.error("a transport can't listen again: the server has to be restarted")

    def leave(self, sock: Any, lost: Event) -> None:
        """See `Parting`."""
        self._until, again, least = monotonic() + self._timeout, 0.0, inf
        idle: set[Carrier] = set()
        while not lost.is_set():
            now, left = monotonic(), sum(session.carried for session in self._registry.sessions)
            if now >= again:
                self._ask(lost)
                again = monotonic() + ASK_AGAIN
            elif left < least:
                again = now + ASK_AGAIN
            least = min(least, left)
            unused = set(self._server.unused())
            for carrier in unused & idle:  # twice in a row: a client may be about to use it
                gevent.spawn(carrier.close, LAST_WORDS)
            idle = unused - idle
            if now >= self._until or not left:
                break
            lost.wait(LOOK)

    def _ask(self, lost: Event) -> None:
        asked = 0
        for session in self._registry.sessions:
            maybe_yield()
            if session.carried and session.protocol.resumable:
                session.ask_to_move()
                asked += 1
                if asked % AT_ONCE == 0 and lost.wait(PAUSE):
                    return
