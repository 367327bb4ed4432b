"""A session at its service, from its first request on.

It lives in one greenlet until it ends, or until it goes on in another process of the server. For that it is
stopped here, and becomes a `Parcel`.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent
from gevent.event import Event

from lane.address import Address
from lane.errors import Closed, LaneError, Status, Suspended, TargetError
from lane.proto.hello import Command, Request
from lane.server.frozen import MOST_UNKNOWN
from lane.server.services import Service
from lane.session.parcel import Parcel
from lane.session.session import Session
from lane.supervisor import report

STOP_TIME = 20.0
"""Seconds that a session has to stop. It takes a few turns of the event loop, which may be slow ones."""
_ELSEWHERE = "it goes on in another process"

log = logging.getLogger("lane.server")


class Asked(NamedTuple):
    """What a session was begun for."""

    request: Request
    user: str
    peer: str
    """The address of the client's first carrier."""
    transport: str = ""
    """Its transport."""


class HostedSession:
    """The session `session` of `asked` at `service`. `hook`: pluggy's caller for lane's hooks."""

    __slots__ = (
        "_hook", "_name", "_parcel", "_running", "_service", "_stopped", "asked", "session",
    )  # fmt: skip

    def __init__(self, service: Service, session: Session, asked: Asked, hook: Any, name: str) -> None:
        self.session = session
        self.asked = asked
        self._service = service
        self._hook = hook
        self._name = name
        self._running = False
        self._stopped: Event | None = None  # set while another process wants it
        self._parcel: Parcel | None = None

    @property
    def bound(self) -> Address:
        """See `Service.bound`."""
        return self._service.bound

    @property
    def stopping(self) -> bool:
        """Whether it has been asked to stop."""
        return self._stopped is not None

    def run(self, ended: Callable[[LaneError | None], None]) -> None:
        """Live until the end, tell observers of it, and call `ended` with the error, or None."""
        asked, session = self.asked, self.session
        self._tell("lane_session_started", target=asked.request.address, identity=asked.user)
        error: LaneError | None = Closed("the server ended it")
        told = None
        self._running = True
        try:
            error = self._service.run(session)
        except Suspended:
            told = _ELSEWHERE
            self._pack()
        finally:
            if told is None:
                told = str(error) if error else None
                ended(error)
            if self._stopped is not None:
                self._stopped.set()
            log.debug("%s: %s ended: %s", asked.user, asked.request.address, told or "in good order")
            self._tell(
                "lane_session_ended",
                sent=session.receive_window.received,
                received=session.send_buffer.sent,
                error=told,
            )

    def is_idle(self, since: float) -> bool:
        """Whether it has moved nothing since this time, and can wait for its client."""
        session = self.session
        return (
            session.last_data < since
            and self.asked.request.command == Command.CONNECT
            and self._running
            and not self.stopping
            and session.protocol.resumable
            and session.protocol.is_quiet(MOST_UNKNOWN)
        )

    def stop(self) -> Parcel:
        """Stop it here, for another process. Raises TargetError (GONE) if it ends instead."""
        while not self._running:  # it begins in the next turn of the event loop
            gevent.sleep(0)
        self.halt()
        return self.stopped()

    def halt(self) -> None:
        """Begin to stop. `stopped` comes next."""
        self._stopped = Event()
        self._service.suspend()

    def stopped(self) -> Parcel:
        """Wait until it has stopped. Raises TargetError (GONE) if it ends instead."""
        assert self._stopped is not None
        if not self._stopped.wait(STOP_TIME):
            self._stopped = None
            raise TargetError(Status.GONE, "the session did not stop in time")
        if self._parcel is None:
            raise TargetError(Status.GONE, "the session has just ended")
        parcel, self._parcel = self._parcel, None
        return parcel

    def _pack(self) -> None:
        state, descriptors = self._service.freeze()
        whole = {
            "user": self.asked.user,
            "peer": self.asked.peer,
            "transport": self.asked.transport,
            "request": self.asked.request.freeze(),
            "session": self.session.protocol.freeze(),
            "service": state,
        }
        self._parcel = Parcel(whole, descriptors)
        if self._stopped is None:  # too late: it ends here
            self._parcel.close()

    def _tell(self, name: str, **what: Any) -> None:
        """Call observers. An exception in one of them does not affect the session."""
        try:
            getattr(self._hook, name)(session=self._name, **what)
        except Exception as error:
            report("a hook that observes sessions", error)


def asked_of(state: dict[str, Any]) -> Asked:
    """What the session in a parcel was begun for."""
    return Asked(Request.thaw(state["request"]), state["user"], state["peer"], state["transport"])
