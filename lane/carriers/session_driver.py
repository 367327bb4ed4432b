"""The driver of one client session: it requests the session, and carries it over one stream after another.

The first request of a session has a command such as CONNECT. When the stream is lost, or another lane is
better, the next stream requests the same session: with RESUME if the server may know the session, otherwise
with the first command again. Each request has a higher generation, so a late one does no harm. A move to
another lane is make-before-break: the old stream carries until the server has answered on the new one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import gevent

from lane.address import Address
from lane.carriers.attempt import Attempt
from lane.carriers.lanes import Lane, Lanes
from lane.carriers.lease import Lease
from lane.carriers.request_stream import RequestStream, Unanswered
from lane.carriers.session_figures import SessionFigures
from lane.errors import Closed, LaneError, Refused, Reset, Status, TargetError, TurnedAway, Unreachable
from lane.proto.frames import End, Received, pack, pack_ack
from lane.proto.hello import EARLY, NOWHERE, RESUMABLE, Command, Reply, Request
from lane.session.session import LINGER, Session
from lane.tasks import start
from lane.users.ending import ending_of

log = logging.getLogger("lane.client")

Leased = tuple[Lane, Lease]
"""A stream that nobody has used, and its lane."""

TRIES = 3
"""Number of requests for a session that no server has answered yet."""
PAUSE = 0.25
"""Seconds before the second request to a server that turned the first one away; doubled before the third."""
PATIENCE = 1.0
"""Seconds that a server has to answer RESUME; more on a long path."""


@dataclass(frozen=True, slots=True)
class SessionDeadlines:
    """Times in seconds."""

    request: float
    """From the first request to the server's first REPLY."""
    grace: float
    """For which a session without a stream waits for a lane that works."""


def _nobody(_: LaneError | None) -> None:
    """Do nothing: nobody wants the outcome."""


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
        self.answered: Callable[[LaneError | None], None] = _nobody
        """Called once with the outcome of the request: None for a good REPLY, otherwise the error."""
        self._lanes = lanes
        self._asked = asked
        self._deadline = monotonic() + deadlines.request
        self._grace = deadlines.grace
        self._generation = -1
        self._server_epoch: bytes | None = None  # the server process that has the session
        self._first_epoch: bytes | None = None  # the last server process known at the first request
        self._tries = TRIES
        self._moving = False
        self._next_lane: Lane | None = None  # of the newest request
        session.asked_to_move = self._leave

    @classmethod
    def thaw(
        cls, lanes: Lanes, session: Session, frozen: dict[str, Any], deadlines: SessionDeadlines
    ) -> "SessionDriver":
        """The driver of a session that was `settled` in another process: call `go_on`."""
        driver = cls(lanes, session, Request.thaw(frozen["request"]), deadlines)
        driver._generation, driver._server_epoch = frozen["generation"], frozen["epoch"]
        driver.began = frozen["began"]
        return driver

    def freeze(self) -> dict[str, Any]:
        """What `thaw` needs in another process, as a plain value."""
        return {
            "request": self._asked.freeze(),
            "generation": self._generation,
            "epoch": self._server_epoch,
            "began": self.began,
        }

    @property
    def key(self) -> bytes:
        """The name of the session at the server."""
        return self._asked.session

    @property
    def settled(self) -> bool:
        """Whether the server has the session, so that it can go on in another process."""
        return self._server_epoch is not None and not self._over

    @property
    def _over(self) -> bool:
        """Whether the session needs no stream here any more."""
        return self.session.over or self.session.suspended

    @property
    def moving(self) -> bool:
        """Whether the session is on its way to another stream."""
        return self._moving

    @property
    def server_epoch(self) -> bytes | None:
        """The server process that has the session; None before the first REPLY."""
        return self._server_epoch

    def begin(self, *, fast: bool) -> Address:
        """Request the session. Returns the address from which the server reached the target.

        Waits for the REPLY, and raises TargetError, Unreachable or Refused. If `fast`, does not wait: returns
        NOWHERE, and raises only if no carrier is available.
        """
        stream = self._ask(self._asked.command)
        bound = NOWHERE
        if not fast:
            stream = self._insist(stream)
            bound = stream.reply().bound
        start(self._travel, stream)
        return bound

    def move(self, lane: Lane, *, fresh: bool = False) -> None:
        """Move the session to `lane` as soon as the server has answered there. `fresh`: to a new carrier."""
        if not self._moving and not self._over:
            self._moving = True
            start(self._move, lane, fresh)

    def _leave(self) -> None:
        """Move to another carrier of the same lane: the server's process there is about to end."""
        stream, lane = self._stream, self.lane
        if stream is not None and lane is not None and self._server_epoch is not None:
            stream.lease.retire()
            self.move(lane, fresh=not lane.pool.shared)

    def rescue(self, lane: Lane) -> None:
        """Leave a silent stream: distrust its carrier, and move the session to `lane`."""
        if self._stream is not None and not self._moving:
            self._stream.lease.distrust()
            if self._server_epoch is None:
                self._stream.reset()  # there was no REPLY yet: the driver repeats the request
            else:
                self.move(lane)

    # One stream after another.

    def _travel(self, stream: RequestStream | None) -> None:
        """Carry the session on `stream`, and on the next one if that is lost."""
        session = self.session
        while stream is not None:
            self._stream, self.lane = stream, self._next_lane
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
            if not self._over and not session.carried:
                self._lanes.observer.stream_lost(session)
            if self._over or session.complete or session.carried or self._moving:
                break  # it has ended, or another greenlet carries it
            stream = self._recover(stream)
        error = session.error
        if isinstance(error, Reset) and (ending := ending_of(error.code)):
            self._lanes.expelled(ending)
        refused = self._server_epoch is None and self._stream is not None and self._stream.refused
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
            stream = self._resume(None, farewell=True)
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
                if self._server_epoch is None and lost is not None:
                    return self._insist(lost)
                lane = self._lanes.best(until - monotonic())
                return self._try(lane, until - monotonic(), self._stands)
            except LaneError as error:
                if self.session.carried:
                    break  # a move has come before
                if self._server_epoch is None or monotonic() >= until:
                    self._fail(error)
                elif not self._judge(error):
                    break
                elif not self._over:
                    self._lanes.wait(until - monotonic())
        return None

    def _move(self, lane: Lane, fresh: bool) -> None:
        stream = None
        try:
            if not self._over and self._server_epoch is not None:
                stream = self._try(lane, self._grace, self._wants, fresh=fresh)
        except LaneError as error:
            if self._judge(error):
                log.debug("%s: no move to %s: %s", self._asked.address, lane.name, error)
        finally:
            self._moving = False
        if stream is None and not self._over and not self.session.carried:
            stream = self._recover(None)  # the old stream was lost during the move
        self._travel(stream)

    def go_on(self, leased: Leased | None) -> None:
        """Carry a session of another process, on a stream that was leased for it, or on the next one."""
        stream = None
        try:
            if leased is None:
                stream = self._try(self._lanes.choice, self._grace, self._wants)
            else:
                stream = self._resume(None, leased=leased)
        except LaneError as error:
            if self._judge(error) and not self._over:
                stream = self._recover(None)
        self._travel(stream)

    def _wants(self) -> bool:
        return not self._over

    def _stands(self) -> bool:
        return not self._over and not self.session.carried

    def _try(
        self, lane: Lane, within: float, wanted: Callable[[], bool], *, fresh: bool = False
    ) -> RequestStream:
        """A stream on `lane` on which the server resumed the session, in its turn. Raises LaneError."""
        turn = self._lanes.turn(lane, wanted, within, urgent=self.urgency)
        try:
            with Attempt(lane) as self.attempt, turn:
                return self._resume(lane, fresh)
        finally:
            self.attempt = None

    def _resume(
        self,
        lane: Lane | None,
        fresh: bool = False,
        *,
        farewell: bool = False,
        leased: Leased | None = None,
    ) -> RequestStream:
        """A stream on `lane` (None: on any) on which the server resumed the session. Raises LaneError.

        `leased`: the stream.
        """
        stream = self._ask(Command.RESUME, lane, fresh, farewell=farewell, leased=leased)
        try:
            stream.reply()
        except TargetError as error:
            if error.status is Status.TTL_EXPIRED:
                stream.lease.distrust()
            raise
        return stream

    def _ask(
        self,
        command: int,
        lane: Lane | None = None,
        fresh: bool = False,
        *,
        farewell: bool = False,
        leased: Leased | None = None,
    ) -> RequestStream:
        """A stream with a request for the session. Raises Unreachable or Refused, Closed if it is over.

        `farewell`: the session is over, and the request is only to tell the server so.
        """
        found, lease = leased or self._lanes.lease(lane, fresh=fresh)
        if self._over and not farewell:  # meanwhile
            lease.discard()
            raise Closed("the session is over")
        self._next_lane = found
        self._generation += 1
        if self._first_epoch is None:
            self._first_epoch = self._lanes.server_epoch
        request = self._asked
        if request.generation != self._generation:
            request = replace(request, generation=self._generation)
        if command == Command.RESUME:
            request = replace(request, command=command, address=NOWHERE, flags=RESUMABLE)
        window = self.session.receive_window
        behind = pack(Received(window.arrived)) if self._generation else b""
        if farewell and self.session.complete:
            behind += pack_ack(window.consumed, window.window) + pack(End())
        only = self._server_epoch is None and not farewell
        timeout = self._deadline - monotonic() if only else found.patience(PATIENCE)
        stream = RequestStream(lease, request, max(timeout, 0.0), behind, only=only)
        stream.answered = self._replied
        return stream

    def _insist(self, stream: RequestStream) -> RequestStream:
        """The stream with the first good REPLY: `stream` or a later one. Raises the final failure."""
        while True:
            try:
                stream.reply()
            except LaneError as error:
                if (following := self._retry(stream, error)) is None:
                    raise
                stream = following
            else:
                return stream

    def _retry(self, lost: RequestStream, error: LaneError) -> RequestStream | None:
        """Repeat a request without a REPLY on another carrier. None if that can't help.

        The server may have received the first request with data, and data must not reach the target twice.
        So the repeated request is RESUME. It is the first command again only if no data were sent, or if the
        same server process has said that it does not know the session.
        """
        self._tries -= 1
        gone = isinstance(error, TargetError) and error.status is Status.GONE
        aged = isinstance(error, Unreachable | Refused) and (lost.lease.distrusted or not lost.lease.fresh)
        turned_away = isinstance(error, TurnedAway | Unanswered) and not aged
        if not self._tries or self._over or not (gone or aged or turned_away):
            return None
        if turned_away:
            gevent.sleep(PAUSE * (TRIES - self._tries))
        if gone and (lost.server_epoch is None or lost.server_epoch != self._first_epoch):
            raise Closed("the connection to the server was lost, and data with it")
        begin = gone or not self.session.send_buffer.sent
        return self._ask(self._asked.command if begin else Command.RESUME, fresh=True)

    # The answers of the server.

    def _replied(self, reply: Reply) -> None:
        first, self._server_epoch = self._server_epoch is None, reply.server_epoch
        self._lanes.heard(reply.server_epoch)
        if first:
            self.session.grant(max(reply.window, EARLY))
            self.answered(None)
            self.answered = _nobody

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
        if not self._over:
            self.answered(error)
            self.answered = _nobody
            self.session.fail(error)
