"""The way of one session of the client: over which streams it lives, one after the other.

A session is asked for with a command such as CONNECT. When its stream is lost, or another lane is better,
the next stream asks for the same session: with RESUME where the server may know it, with the same command
where it can't have heard of it. Each request has a greater generation, so whatever is late does no harm.
While one lane works, a move is made before it is broken: the old stream carries until the server has
answered on the new one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

import gevent

from lane.address import Address
from lane.carriers.lanes import STUCK, Lane, Lanes
from lane.carriers.path_meter import DirectionCounts, SessionCounts
from lane.carriers.request_stream import NOWHERE, RequestStream, Unanswered
from lane.errors import Closed, LaneError, Refused, Status, TargetError, TurnedAway, Unreachable
from lane.proto.frames import Received, pack
from lane.proto.hello import EARLY, RESUMABLE, Command, Reply, Request
from lane.session.activity import ACTIVE
from lane.session.session import Session
from lane.tasks import start

log = logging.getLogger("lane.client")

TRIES = 3
"""Requests for a session that no server has answered for yet."""
PAUSE = 0.25
"""Seconds until a server is asked again that has turned a request away; longer after the second time."""
PATIENCE = 1.0
"""Seconds, at least, that a server has to go on with a session on another stream."""


@dataclass(frozen=True, slots=True)
class SessionDeadlines:
    """Seconds until a server's first REPLY, and for which a session waits for a lane that works."""

    request: float
    grace: float


def _nobody(_: LaneError | None) -> None:
    """Nobody asked."""


class SessionDriver:
    """`session`, not yet asked for: `asked` is the request that begins it, but for the generation."""

    def __init__(self, lanes: Lanes, session: Session, asked: Request, deadlines: SessionDeadlines) -> None:
        self.session = session
        self.lane: Lane | None = None
        """The lane that carries it, or did so last."""
        self.answered: Callable[[LaneError | None], None] = _nobody
        """Called once with what came of the request: None for a good REPLY."""
        self._lanes = lanes
        self._asked = asked
        self._deadline = monotonic() + deadlines.request
        self._grace = deadlines.grace
        self._generation = -1
        self._server_epoch: bytes | None = None  # the server process that has the session
        self._first_epoch: bytes | None = None  # the one that was there when it was asked for first
        self._tries = TRIES
        self._stream: RequestStream | None = None
        self._moving = False
        self._next_lane: Lane | None = None  # of the newest request

    @property
    def moving(self) -> bool:
        """Whether another stream is being made for it."""
        return self._moving

    @property
    def active(self) -> bool:
        """Whether it moved data lately, or is waiting to."""
        session, now = self.session, monotonic()
        return now - session.last_data < ACTIVE or bool(session.send_buffer.retained) or self.waiting(now)

    def waiting(self, now: float) -> bool:
        """Whether nothing carries it, or what does gives no answer."""
        return not self.session.carried or self.session.silence(now) > STUCK

    @property
    def server_epoch(self) -> bytes | None:
        """The server process that has the session; None while that is not known."""
        return self._server_epoch

    def begin(self, *, fast: bool) -> Address:
        """Ask for the session: the address that the target was reached from, NOWHERE if `fast`.

        Raises TargetError, Unreachable or Refused; if fast, only where no carrier can be had.
        """
        stream = self._ask(self._asked.command)
        bound = NOWHERE
        if not fast:
            stream = self._insist(stream)
            bound = stream.reply().bound
        start(self._travel, stream)
        return bound

    def move(self, lane: Lane, *, fresh: bool = False) -> None:
        """Go on over `lane`, on a carrier that was made for it if `fresh`, as soon as the server agrees."""
        if not self._moving and not self.session.over:
            self._moving = True
            start(self._move, lane, fresh)

    def rescue(self, lane: Lane) -> None:
        """The stream is silent: go on over `lane`, on a carrier that is known to work."""
        if self._stream is not None and not self._moving:
            self._stream.lease.distrust()
            if self._server_epoch is None:
                self._stream.reset()  # nobody has answered: it is asked for again
            else:
                self.move(lane)

    @property
    def rtt(self) -> float | None:
        """Round trip on its stream as who sends more measures it, seconds."""
        peer_stats = self.session.protocol.peer_stats
        if peer_stats is not None and peer_stats.rtt:
            return peer_stats.rtt / 1e6
        return self._stream.stats().rtt if self._stream else None

    def count(self) -> tuple[object, SessionCounts]:
        """Its stream, and what was counted on it."""
        session, stream, near, far = self.session, self._stream, None, None
        protocol = session.protocol
        if stream is not None and session.sending:
            own = stream.stats()
            near = DirectionCounts(own.sent, own.lost, protocol.writer.send_blocked_seconds)
        if (stats := protocol.peer_stats) is not None:
            far = DirectionCounts(stats.sent, stats.lost, stats.held / 1e6)
        moved = session.receive_window.received + session.send_buffer.acked + protocol.activity.datagram_bytes
        return stream, SessionCounts(moved, (near, far))

    # The streams, one after the other.

    def _travel(self, stream: RequestStream | None) -> None:
        """Carry the session on `stream`, and on the next one when that is lost."""
        session = self.session
        while stream is not None:
            self._stream, self.lane = stream, self._next_lane
            if session.over and not stream.asked:
                stream.discard()
                return  # no server knows of it
            rest = session.carry(
                stream, stream.stats, resumed=stream.resumed, announced=True, flows=stream.flows
            )
            if rest == b"":
                stream.keep()
            else:
                stream.discard() if rest else stream.release()
            if session.over or session.complete or session.carried or self._moving:
                break  # it has ended, or somebody else carries it on
            stream = self._recover(stream)
        refused = self._server_epoch is None and self._stream is not None and self._stream.refused
        if session.abort_unheard and not self._moving and not refused:
            self._lanes.farewells.add(self._part, self._grace)

    def _part(self, until: float) -> None:
        """Tell the server that the session was aborted, on any stream."""
        while monotonic() < until and not self._try_to_part():
            self._lanes.wait(until - monotonic())

    def _try_to_part(self) -> bool:
        """Whether the server knows by now that the session was aborted."""
        try:
            stream = self._resume(None, farewell=True)
        except TargetError as error:
            return error.status is not Status.TTL_EXPIRED  # there is none, or not any more
        except LaneError:
            return False
        self.session.carry(stream, stream.stats)
        stream.release()
        return not self.session.abort_unheard

    def _recover(self, lost: RequestStream | None) -> RequestStream | None:
        """Another stream with the session; None if it has ended."""
        session, until = self.session, monotonic() + self._grace
        while not session.over:
            try:
                if self._server_epoch is None and lost is not None:
                    return self._insist(lost)
                lane = self._lanes.best(until - monotonic())
                self._lanes.wait_to_dial(lane, session, until - monotonic(), urgent=self.active)
                return self._resume(lane)
            except LaneError as error:
                if self._server_epoch is None or monotonic() >= until:
                    self._fail(error)
                elif not self._judge(error):
                    break
                elif not session.over:
                    self._lanes.wait(until - monotonic())
        return None

    def _move(self, lane: Lane, fresh: bool) -> None:
        stream = None
        try:
            self._lanes.wait_to_dial(lane, self.session, self._grace, urgent=True)
            if not self.session.over and self._server_epoch is not None:
                stream = self._resume(lane, fresh)
        except LaneError as error:
            if self._judge(error):
                log.debug("%s: no move to %s: %s", self._asked.address, lane.name, error)
        finally:
            self._moving = False
        if stream is None and not self.session.over and not self.session.carried:
            stream = self._recover(None)  # it was lost meanwhile, and left to us
        self._travel(stream)

    def _resume(self, lane: Lane | None, fresh: bool = False, *, farewell: bool = False) -> RequestStream:
        """A stream of `lane`, None: of any, on which the server goes on with it. Raises LaneError."""
        stream = self._ask(Command.RESUME, lane, fresh, farewell=farewell)
        try:
            stream.reply()
        except TargetError as error:
            if error.status is Status.TTL_EXPIRED:
                stream.lease.distrust()
            raise
        return stream

    def _ask(
        self, command: int, lane: Lane | None = None, fresh: bool = False, *, farewell: bool = False
    ) -> RequestStream:
        """A stream with the request for the session. Raises Unreachable or Refused.

        `farewell`: the session is over, and only the server is to hear of it.
        """
        found, lease = self._lanes.lease(lane, fresh=fresh)
        if self.session.over and not farewell:  # meanwhile
            lease.discard()
            raise Closed("the session is over")
        self._next_lane = found
        self._generation += 1
        if self._first_epoch is None:
            self._first_epoch = self._lanes.server_epoch
        request = replace(self._asked, generation=self._generation)
        if command == Command.RESUME:
            request = replace(request, command=command, address=NOWHERE, flags=RESUMABLE)
        behind = pack(Received(self.session.receive_window.arrived)) if self._generation else b""
        only = self._server_epoch is None and not farewell
        timeout = self._deadline - monotonic() if only else found.patience(PATIENCE)
        stream = RequestStream(lease, request, max(timeout, 0.0), behind, only=only)
        stream.answered = self._replied
        return stream

    def _insist(self, stream: RequestStream) -> RequestStream:
        """`stream`, or one that comes after it, with a first good REPLY. Raises what keeps it from that."""
        while True:
            try:
                stream.reply()
            except LaneError as error:
                stream = self._retry(stream, error)
            else:
                return stream

    def _retry(self, lost: RequestStream, error: LaneError) -> RequestStream:
        """Ask on another carrier for what no REPLY came for. Raises `error` where that can't help.

        The server may have got the request, with data that must not reach the target twice: so it is asked
        whether it knows the session, and told to begin it only where nothing can have come of the first one.
        """
        self._tries -= 1
        gone = isinstance(error, TargetError) and error.status is Status.GONE
        aged = isinstance(error, Unreachable | Refused) and (lost.lease.distrusted or not lost.lease.fresh)
        turned_away = isinstance(error, TurnedAway | Unanswered) and not aged
        if not self._tries or self.session.over or not (gone or aged or turned_away):
            raise error
        if turned_away:
            gevent.sleep(PAUSE * (TRIES - self._tries))
        if gone and (lost.server_epoch is None or lost.server_epoch != self._first_epoch):
            raise Closed("the connection to the server was lost, and with it what was sent")
        begin = gone or not self.session.send_buffer.sent
        return self._ask(self._asked.command if begin else Command.RESUME, fresh=True)

    # What becomes of it.

    def _replied(self, reply: Reply) -> None:
        first, self._server_epoch = self._server_epoch is None, reply.server_epoch
        self._lanes.heard(reply.server_epoch)
        if first:
            self.session.grant(max(reply.window, EARLY))
            self.answered(None)
            self.answered = _nobody

    def _judge(self, error: LaneError) -> bool:
        """What a server's answer means for a session that was there; whether to try again."""
        if not isinstance(error, TargetError) or error.status in (Status.TTL_EXPIRED, Status.STALE):
            return True
        if error.status is Status.COMPLETE:
            self.session.peer_completed()
        else:
            self._fail(error)
        return False

    def _fail(self, error: LaneError) -> None:
        """End the session with `error`."""
        if not self.session.over:
            self.answered(error)
            self.session.fail(error)
