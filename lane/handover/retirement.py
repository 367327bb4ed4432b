"""The end of a process whose place another one takes.

It takes no more connections, and has those that it has leave: those of a server come to the new process by
themselves, when their clients are asked to (`lane.handover.server_parting`); a client's are fetched
(`lane.handover.client_parting`). Once nothing is left here that can leave, or the time is over, it sends the
new process the sessions that are left, and ends. If the new process dies before that, this one takes
connections again, and goes on with what it still has. One that hangs is not brought back: two processes
would serve, and neither would know the other's sessions.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import gevent
from gevent.event import Event

from lane.errors import Closed, LaneError, ProtocolError
from lane.handover import channel
from lane.handover.exchange import Others
from lane.handover.notes import SETTLE
from lane.handover.succession import FORMAT, START_TIME
from lane.session.parcel import Parcel

SEND_TIME = 60.0
"""Seconds that the new process has to take one message. It may have hundreds before it."""

log = logging.getLogger("lane.handover")


class Parting(Protocol):
    """How a process parts with what it has."""

    def pause(self) -> None:
        """Take no more connections: another process does."""

    def resume(self) -> None:
        """Take connections again, and stay."""

    def leave(self, sock: Any, lost: Event, keeper: str) -> None:
        """Have sessions leave, until none is left or the time is over, or until `lost`.

        `sock` leads to the new process, which keeps idle sessions at the desk `keeper`, if that is not "".
        Raises OSError, LaneError, or gevent.Timeout if that hangs.
        """

    def hurry(self) -> None:
        """Let them no more time."""

    def rest(self) -> Iterator[Parcel]:
        """Stop the sessions that are left, and may go on in another process."""


class Retirement:
    """Retires a process by its `parting`. `others` are the processes that this one asks for sessions.

    `changed(True)` is called when another process serves, `changed(False)` if that has died, and `end` at the
    end.
    """

    def __init__(
        self, parting: Parting, others: Others, changed: Callable[[bool], None], end: Callable[[], None]
    ) -> None:
        self._parting = parting
        self._others = others
        self._changed = changed
        self._end = end
        self._under_way = False

    def hurry(self) -> None:
        """Let those who are here no more time."""
        self._parting.hurry()

    def begin(self, sock: Any, wanted: int) -> None:
        """Retire in favour of the process at the other end of `sock`, which takes the format `wanted`.

        Returns when that is over, whatever the outcome. Raises ProtocolError if it can't begin.
        """
        if self._under_way or wanted != FORMAT:
            raise ProtocolError("another process takes over already, or does not know how")
        self._under_way = True
        lost, name = Event(), ""
        try:
            self._parting.pause()
            name, keeps = self._successor(sock)
            if name:
                self._others.names.append(name)  # a client may come back here, once more
                gone = gevent.spawn(self._watch, sock, lost)
                self._changed(True)
                if not lost.wait(SETTLE):
                    self._parting.leave(sock, lost, name if keeps else "")
                if not lost.is_set():
                    gone.kill()  # no limit: it only reads
                    self._deliver(sock)
                    self._end()
                    return
        except (OSError, LaneError) as error:
            log.warning("the new process has gone: %s", error)
        except gevent.Timeout:
            log.error("the new process hangs: the sessions that it has not taken end")
            self._end()
            return
        finally:
            self._under_way = False
        log.warning("the new process has ended; this one goes on")
        if name:
            self._others.names = [one for one in self._others.names if one != name]
            self._changed(False)
        self._parting.resume()

    def surrender(self) -> Iterator[Parcel]:
        """Take no more connections, and stop all sessions, for the process after the next start."""
        self._parting.pause()
        return self._parting.rest()

    @staticmethod
    def _successor(sock: Any) -> tuple[str, bool]:
        """Wait until the new process serves: the name of its desk, or "", and whether it keeps sessions."""
        with gevent.Timeout(START_TIME, Closed("the new process did not come up")):
            channel.send(sock, {"paused": True})
            value, _ = channel.receive(sock)
        return str(value.get("serving", "")), bool(value.get("keeps"))

    @staticmethod
    def _watch(sock: Any, lost: Event) -> None:
        """Notice that the new process ends. It says nothing before it is sent the last sessions."""
        with suppress(OSError):
            gevent.socket.wait_read(sock.fileno())  # no limit: `begin` ends it
        lost.set()

    def _deliver(self, sock: Any) -> None:
        """Send what is left."""
        for parcel in self._parting.rest():
            self._send(sock, parcel)
        with gevent.Timeout(SEND_TIME):
            channel.send(sock, {"end": True})
            channel.receive(sock)

    @staticmethod
    def _send(sock: Any, parcel: Parcel) -> None:
        try:
            with gevent.Timeout(SEND_TIME):
                channel.send(sock, {"parcel": parcel.state}, parcel.descriptors)
        finally:
            parcel.close()
