"""How a server parts with its clients when another process takes its place: it asks them to move.

They make other connections, which lead to the new process, and that asks this one for their sessions
(`lane.handover.exchange`). Many idle sessions do not wait for their clients: the new process gets them at
once, and keeps them until their clients come. Each client is asked with one of them, so that it knows of the
move. Where few are idle, they move as others do, without a gap, and only those that have not after some
seconds are sent.
"""

import logging
import os
from collections.abc import Iterator
from itertools import islice
from math import inf
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.event import Event

from lane.errors import LaneError
from lane.fair import maybe_yield
from lane.handover.exchange import Undecided, keep
from lane.server.requests import Requests
from lane.server.resumption import Entry
from lane.session.activity import ACTIVE
from lane.session.parcel import Parcel
from lane.session.registry import Registry
from lane.session.session import Session
from lane.stream import Carrier, Listener, Pauses

LOOK = 0.1
"""Seconds between two looks for carriers without sessions."""
ASK_AGAIN = 2.0
"""Seconds without a session that moves, after which clients are asked again."""
AT_ONCE = 64
"""Clients that are asked before a short pause, so that they do not all come at once."""
PAUSE = 0.02
"""That pause in seconds."""
HEED = 0.2
"""Seconds until idle sessions lose their streams: their clients should have heard that others lead on."""
FEW_IDLE = 500
"""Idle sessions up to which they wait for their clients."""
GRACE = 5.0
"""Seconds for which they do."""
MOST_SENT = 128
"""Idle sessions that are sent at once."""
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
        self._heralds: set[Session] = set()
        """Idle sessions that were asked to move, each for all of its client."""

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

    def leave(self, sock: Any, lost: Event, keeper: str) -> None:
        """See `Parting`."""
        self._server.requests.leave()
        self._until, again, least = monotonic() + self._timeout, 0.0, inf
        looked, unused = 0.0, set[Carrier]()
        self._heralds.clear()
        many = bool(keeper) and sum(1 for _ in islice(self._idle(), FEW_IDLE + 1)) > FEW_IDLE
        send_from = monotonic() + (0.0 if many else GRACE)
        while not lost.is_set():
            now, left = monotonic(), sum(session.carried for session in self._registry.sessions)
            if now >= again:
                self._ask(lost, many, first=not again)
                again = monotonic() + ASK_AGAIN
                if many and lost.wait(HEED):
                    break
            elif left < least:
                again = now + ASK_AGAIN
            least = min(least, left)
            if now - looked >= LOOK:
                looked, before, unused = now, unused, set(self._server.unused())
                for carrier in unused & before:  # twice in a row: a client may be about to use it
                    gevent.spawn(carrier.close, LAST_WORDS)
            if keeper and now >= send_from and self._send_idle(keeper):
                again = monotonic() + ASK_AGAIN
                continue  # it waits for nobody, so it may go on when the time is over
            if now >= self._until or not left:
                break
            lost.wait(LOOK)

    def _idle(self) -> Iterator[Entry]:
        return self._server.requests.idle(monotonic() - ACTIVE)

    def _ask(self, lost: Event, many: bool, *, first: bool) -> None:
        """Ask clients to move. `many`: idle sessions go by themselves, so one speaks for all, once."""
        asked, told, idle = 0, set[object](), set[Session]()
        self._heralds.clear()
        if many:
            idle = {one.session for one in self._idle() if one.session}
        for session in self._registry.sessions:
            maybe_yield()
            if not session.carried or not session.protocol.resumable:
                continue
            if session in idle:
                if not first:
                    continue
                if (client := self._server.requests.client_of(session)) in told:
                    continue
                told.add(client)
                self._heralds.add(session)
            session.ask_to_move()
            asked += 1
            if asked % AT_ONCE == 0 and lost.wait(PAUSE):
                return

    def _send_idle(self, keeper: str) -> bool:
        """Send some idle sessions to the new process. Returns whether there may be more."""
        since, requests = monotonic() - ACTIVE, self._server.requests
        found = [*islice(requests.idle(since, self._heralds), MOST_SENT)]
        sessions = requests.hand_over_idle(found, since) if found else []
        if not sessions:
            return False
        try:
            keep(keeper, sessions)
        except Undecided:  # if it has them, they go on there
            raise
        except (OSError, LaneError):
            again, sessions = sessions, []
            requests.adopt_again(again)
            raise
        finally:
            requests.arrived(sessions)
            for one in sessions:
                os.close(one.descriptor)
        return True
