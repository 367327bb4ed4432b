"""The driver of one client session: it carries the session over one stream after another.

When the stream is lost, or another lane is better, the next stream requests the same session
(`lane.carriers.session_requests`). A move to another lane is make-before-break: the old stream carries until
the server has answered on the new one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from lane.address import Address
from lane.carriers.attempt import Attempt
from lane.carriers.lanes import Lane, Lanes, Leased
from lane.carriers.request_stream import RequestStream
from lane.carriers.session_figures import SessionFigures
from lane.carriers.session_requests import SessionRequests
from lane.errors import LaneError, Reset, Status, TargetError
from lane.proto.hello import NOWHERE, Command, Request
from lane.session.session import LINGER, Session
from lane.tasks import start
from lane.users.ending import ending_of

log = logging.getLogger("lane.client")


@dataclass(frozen=True, slots=True)
class SessionDeadlines:
    """Times in seconds."""

    request: float
    """From the first request to the server's first REPLY."""
    grace: float
    """For which a session without a stream waits for a lane that works."""


class SessionDriver(SessionFigures):
    """Drives `session`, which was not requested yet. `asked` is its first request, except the generation."""

    def __init__(self, lanes: Lanes, session: Session, asked: Request, deadlines: SessionDeadlines) -> None:
        super().__init__(session)
        self.number = 0
        """Its own number."""
        self.began = monotonic()
        self.target = None if asked.command == Command.UDP else asked.address
        self.lane: Lane | None = None
        """The lane that carries the session, or carried it last."""
        self.attempt: Attempt | None = None
        """The attempt to go on over another stream that is under way."""
        self.requests = SessionRequests(lanes, session, asked, self.began + deadlines.request)
        self._lanes = lanes
        self._grace = deadlines.grace
        self._moving = False
        session.asked_to_move = self._leave

    @classmethod
    def thaw(
        cls, lanes: Lanes, session: Session, frozen: dict[str, Any], deadlines: SessionDeadlines
    ) -> "SessionDriver":
        """The driver of a session that was `settled` in another process: call `go_on`."""
        driver = cls(lanes, session, Request.thaw(frozen["request"]), deadlines)
        driver.requests.thaw(frozen)
        driver.began = frozen["began"]
        return driver

    def freeze(self) -> dict[str, Any]:
        """What `thaw` needs in another process, as a plain value."""
        return {**self.requests.freeze(), "began": self.began}

    @property
    def key(self) -> bytes:
        """The name of the session at the server."""
        return self.requests.first.session

    @property
    def settled(self) -> bool:
        """Whether the server has the session, so that it can go on in another process."""
        return self.requests.server_epoch is not None and not self.session.done_here

    @property
    def moving(self) -> bool:
        """Whether the session is on its way to another stream."""
        return self._moving

    @property
    def server_epoch(self) -> bytes | None:
        """The server process that has the session; None before the first REPLY."""
        return self.requests.server_epoch

    def begin(self, *, fast: bool) -> Address:
        """Request the session. Returns the address from which the server reached the target.

        Waits for the REPLY, and raises TargetError, Unreachable or Refused. If `fast`, does not wait: returns
        NOWHERE, and raises only if no carrier is available.
        """
        stream = self.requests.ask(self.requests.first.command)
        bound = NOWHERE
        if not fast:
            stream = self.requests.insist(stream)
            bound = stream.reply().bound
        start(self._travel, stream)
        return bound

    def move(self, lane: Lane, *, fresh: bool = False) -> None:
        """Move the session to `lane` as soon as the server has answered there. `fresh`: to a new carrier."""
        if not self._moving and not self.session.done_here:
            self._moving = True
            start(self._move, lane, fresh)

    def _leave(self) -> None:
        """Move to another carrier of the same lane: the server's process there is about to end."""
        stream, lane = self._stream, self.lane
        if stream is not None and lane is not None and self.requests.server_epoch is not None:
            stream.lease.retire()
            self.move(lane, fresh=not lane.pool.shared)

    def rescue(self, lane: Lane) -> None:
        """Leave a silent stream: distrust its carrier, and move the session to `lane`."""
        if self._stream is not None and not self._moving:
            self._stream.lease.distrust()
            if self.requests.server_epoch is None:
                self._stream.reset()  # there was no REPLY yet: the driver repeats the request
            else:
                self.move(lane)

    # One stream after another.

    def _travel(self, stream: RequestStream | None) -> None:
        """Carry the session on `stream`, and on the next one if that is lost."""
        session = self.session
        while stream is not None:
            self._stream, self.lane = stream, self.requests.lane
            if session.suspended or (session.over and not stream.asked):
                stream.discard()
                return  # it goes on elsewhere, or no server knows of it
            rest = session.carry(
                stream, stream.stats, resumed=stream.resumed, announced=True, flows=stream.flows
            )
            if rest == b"":
                stream.keep()
            else:
                stream.discard() if rest else stream.release()
            if not self.session.done_here and not session.carried:
                self._lanes.observer.stream_lost(session)
            if self.session.done_here or session.complete or session.carried or self._moving:
                break  # it has ended, or another greenlet carries it
            stream = self._recover(stream)
        error = session.error
        if isinstance(error, Reset) and (ending := ending_of(error.code)):
            self._lanes.expelled(ending)
        refused = self.requests.server_epoch is None and self._stream is not None and self._stream.refused
        unheard = session.abort_unheard or (session.end_unheard and not session.suspended)
        if unheard and not self._moving and not refused:
            self._lanes.farewells.add(self._part, self._grace)

    def _part(self, until: float) -> None:
        """Tell the server, on any stream, how the session has ended. Gives up at the time `until`."""
        while monotonic() < until and not self._try_to_part():
            self._lanes.wait(until - monotonic())

    def _try_to_part(self) -> bool:
        """Tell the server once. Returns whether it knows now."""
        try:
            stream = self.requests.resume(None, farewell=True)
        except TargetError as error:
            return error.status is not Status.TTL_EXPIRED  # the server has no such session, or no longer
        except LaneError:
            return False
        if self.session.complete:  # the request has said so
            return stream.wait_for_end(LINGER)
        self.session.carry(stream, stream.stats)
        stream.release()
        return not self.session.abort_unheard

    def _recover(self, lost: RequestStream | None) -> RequestStream | None:
        """Make the next stream of the session. None if it has ended, or if another greenlet carries it."""
        until = monotonic() + self._grace
        while self._stands():
            try:
                if self.requests.server_epoch is None and lost is not None:
                    return self.requests.insist(lost)
                lane = self._lanes.best(until - monotonic())
                return self._try(lane, until - monotonic(), self._stands)
            except LaneError as error:
                if self.session.carried:
                    break  # a move has come before
                if self.requests.server_epoch is None or monotonic() >= until:
                    self._fail(error)
                elif not self._judge(error):
                    break
                elif not self.session.done_here:
                    self._lanes.wait(until - monotonic())
        return None

    def _move(self, lane: Lane, fresh: bool) -> None:
        stream = None
        try:
            if not self.session.done_here and self.requests.server_epoch is not None:
                stream = self._try(lane, self._grace, self._wants, fresh=fresh)
        except LaneError as error:
            if self._judge(error):
                log.debug("%s: no move to %s: %s", self.requests.first.address, lane.name, error)
        finally:
            self._moving = False
        if stream is None and not self.session.done_here and not self.session.carried:
            stream = self._recover(None)  # the old stream was lost during the move
        self._travel(stream)

    def go_on(self, leased: Leased | None) -> None:
        """Carry a session of another process, on a stream that was leased for it, or on the next one."""
        stream = None
        try:
            if leased is None:
                stream = self._try(self._lanes.choice, self._grace, self._wants)
            else:
                stream = self.requests.resume(None, leased=leased)
        except LaneError as error:
            if self._judge(error) and not self.session.done_here:
                stream = self._recover(None)
        self._travel(stream)

    def _wants(self) -> bool:
        return not self.session.done_here

    def _stands(self) -> bool:
        return not self.session.done_here and not self.session.carried

    def _try(
        self, lane: Lane, within: float, wanted: Callable[[], bool], *, fresh: bool = False
    ) -> RequestStream:
        """A stream on `lane` on which the server resumed the session, in its turn. Raises LaneError."""
        turn = self._lanes.turn(lane, wanted, within, urgent=self.urgency)
        try:
            with Attempt(lane) as self.attempt, turn:
                return self.requests.resume(lane, fresh)
        finally:
            self.attempt = None

    def _judge(self, error: LaneError) -> bool:
        """Apply a server's answer to RESUME to the session. Returns whether to try again."""
        if not isinstance(error, TargetError) or error.status in (Status.TTL_EXPIRED, Status.STALE):
            return True
        if self.session.suspended:
            return False
        if error.status is Status.COMPLETE:
            self.session.peer_completed()
        else:
            self._fail(error)
        return False

    def _fail(self, error: LaneError) -> None:
        """End the session with `error`."""
        if not self.session.done_here:
            self.requests.tell(error)
            self.session.fail(error)
