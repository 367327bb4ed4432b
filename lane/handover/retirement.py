"""The end of a process whose place another one takes.

It stops listening, asks its clients to move to other connections, which lead to the new process, and gives
each session to the new process as its client comes there. Once no client is left here, or the time is over,
it sends the new process the sessions that are left, and ends. If the new process dies before that, it listens
again, and goes on with what it still has.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.event import Event

from lane.errors import Closed, LaneError, ProtocolError
from lane.fair import maybe_yield
from lane.handover import channel
from lane.handover.exchange import Others
from lane.handover.notes import SETTLE
from lane.handover.succession import FORMAT, START_TIME
from lane.server.hosted import Parcel
from lane.server.requests import Requests
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
SEND_TIME = 10.0
"""Seconds that the new process has to take one session."""

log = logging.getLogger("lane.handover")


class Carriers(Protocol):
    """What a retirement needs of `lane.server.server`."""

    requests: Requests

    def unused(self) -> list[Carrier]:
        """The carriers that carry nothing."""

    def part(self) -> None:
        """Close all carriers."""


class Retirement:
    """Retires `server`. `timeout`: seconds for which clients may stay.

    `others` are the processes that this one asks for sessions. `changed(True)` is called when another process
    serves, `changed(False)` if that has died, and `end` at the end.
    """

    def __init__(
        self,
        server: Carriers,
        registry: Registry,
        listeners: list[Listener],
        timeout: float,
        *,
        others: Others,
        changed: Callable[[bool], None],
        end: Callable[[], None],
    ) -> None:
        self._server = server
        self._registry = registry
        self._listeners = listeners
        self._timeout = timeout
        self._others = others
        self._changed = changed
        self._end = end
        self._under_way = False
        self._until = 0.0

    def hurry(self) -> None:
        """Let the clients no more time."""
        self._until = 0.0

    def begin(self, sock: Any, wanted: int) -> None:
        """Retire in favour of the process at the other end of `sock`, which takes the format `wanted`.

        Returns when that is over, whatever the outcome. Raises ProtocolError if it can't begin.
        """
        if self._under_way or wanted != FORMAT:
            raise ProtocolError("another process takes over already, or does not know how")
        self._under_way = True
        lost, name = Event(), ""
        try:
            self._pause()
            if name := self._successor(sock):
                self._others.names.append(name)  # a client may come back here, once more
                gone = gevent.spawn(self._watch, sock, lost)
                self._changed(True)
                lost.wait(SETTLE)
                if self._leave(lost) and not lost.is_set():
                    gone.kill()  # no limit: it only reads
                    self._deliver(sock)
                    self._end()
                    return
        except (OSError, LaneError) as error:
            log.warning("the new process has gone: %s", error)
        finally:
            self._under_way = False
        log.warning("the new process has ended; this one goes on")
        if name:
            self._others.names = [one for one in self._others.names if one != name]
            self._changed(False)
        self._server.requests.stay()
        self._resume()

    def surrender(self) -> Iterator[Parcel]:
        """Listen no more, and stop all sessions that can be resumed, for the process after the next start."""
        self._pause()
        self._server.part()
        return self._server.requests.hand_over_all()

    def _pause(self) -> None:
        for listener in self._listeners:
            if isinstance(listener, Pauses):
                listener.pause()
            else:
                listener.close()

    def _resume(self) -> None:
        for listener in self._listeners:
            if isinstance(listener, Pauses):
                listener.resume()
            else:
                log.error("a transport can't listen again: the server has to be restarted")

    @staticmethod
    def _successor(sock: Any) -> str:
        """Wait until the new process serves: the name of its desk, or nothing."""
        with gevent.Timeout(START_TIME, Closed("the new process did not come up")):
            channel.send(sock, {"paused": True})
            value, _ = channel.receive(sock)
        return str(value.get("serving", ""))

    @staticmethod
    def _watch(sock: Any, lost: Event) -> None:
        """Notice that the new process ends. It says nothing before it is sent the last sessions."""
        with suppress(OSError):
            gevent.socket.wait_read(sock.fileno())  # no limit: `begin` ends it
        lost.set()

    def _leave(self, lost: Event) -> bool:
        """Have the clients leave, as long as the new process lives. Returns whether they have."""
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
        self._server.part()
        return not lost.is_set()

    def _ask(self, lost: Event) -> None:
        asked = 0
        for session in self._registry.sessions:
            maybe_yield()
            if session.carried and session.protocol.resumable:
                session.ask_to_move()
                asked += 1
                if asked % AT_ONCE == 0 and lost.wait(PAUSE):
                    return

    def _deliver(self, sock: Any) -> None:
        """Send what is left."""
        for parcel in self._server.requests.hand_over_all():
            self._send(sock, parcel)
        with gevent.Timeout(SEND_TIME, Closed("the new process does not answer")):
            channel.send(sock, {"end": True})
            channel.receive(sock)

    @staticmethod
    def _send(sock: Any, parcel: Parcel) -> None:
        try:
            with gevent.Timeout(SEND_TIME, Closed("the new process does not answer")):
                channel.send(sock, {"parcel": parcel.state}, parcel.descriptors)
        finally:
            parcel.close()
