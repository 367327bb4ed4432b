"""A session: one duplex connection with half-close and reset, in frames over a stream, or several in turn.

One greenlet reads the stream, in `carry`, and nothing may block it for long, because acknowledgements for
our own data come the same way: what it receives goes into the inbox, which the peer's window bounds; what
it has to answer goes out with whoever writes next (see `writer`).

A session that is resumable outlives its stream. While nothing carries it, what it is given to send is
retained as ever, and who waits for more waits on.
"""

from collections.abc import Callable
from functools import partial
from math import inf
from time import monotonic

import gevent
from gevent.event import Event

from lane.budget import Budget
from lane.errors import Closed, Failure, LaneError, ProtocolError, Reset
from lane.fair import be_fair
from lane.proto.frames import (
    Ack,
    Data,
    End,
    Fin,
    Frame,
    FrameReader,
    Ping,
    Pong,
    Received,
    ResetFrame,
    Stats,
    aborted,
    reset_code,
)
from lane.session.flows import Flows
from lane.session.liveness import Liveness
from lane.session.parting import Parting
from lane.session.window import Buffer, Inbox, Outbox
from lane.session.writer import PIECE, Writer
from lane.stream import LinkStats, Stream, receiver

READ_SIZE = 279552
"""Bytes asked of a stream: two frames of bulk, and for TLS the rest of a record that came before."""
LINGER = 5.0
"""Seconds to wait for the peer's END once both directions have been consumed."""
ACTIVE = 3.0
"""Seconds after its last data that a session counts as active."""
IDLE = 10.0
"""Seconds after its last data that a session gives up a window that had grown."""
REPORT = 0.25
"""Seconds between two STATS of a session that sends."""
TURN = 8
"""Frames that are acted on before others get their turn: tiny ones may come by the thousand."""
EMPTY, EMPTY_RATE, EMPTY_SIZE = 1000.0, 100.0, 256
"""Frames that say nothing new which a peer may send at once, and a second, and bytes of data that excuse one:
a sender with a small buffer asks for an ACK each time that it is full."""
RECENT = 1.0
"""Seconds for which a packet beside the stream counts as being sent: nobody acknowledges it to us."""


def _nothing() -> None:
    """Nobody wants to know."""


class Session:
    """Lives on the streams that `carry` is called with, one after the other, until it is `over`.

    `credit`: bytes the peer takes before its first ACK. `wake` is called when there is something for
    `tick` to look after. `resumable`: it survives the loss of a stream.
    """

    reports = False
    """Whether the peer wants STATS."""
    told: Stats | None = None
    """The newest STATS of the peer."""
    offer: Callable[[Buffer], int] | None = None
    """Takes in received bytes without waiting, from the first on: how many. They count as consumed."""
    beside = 0
    """Bytes that came and went beside its streams."""
    parked = False
    """Whether it waits for what may take long: it is not idle then, and has nothing to finish."""
    parting: "gevent.Greenlet[..., None] | None" = None
    """Tells the peer of a reset, for some seconds at most."""
    _parting: Parting | None = None
    _failure: Failure[LaneError] | None = None
    _when_over: tuple[Callable[[], None], ...] = ()
    _closing = False
    _shrinking = False
    _free = False
    _reported = 0.0
    _empty, _empty_since = EMPTY, 0.0  # that the peer might send, and when that was so
    _sent_beside = -inf

    def __init__(
        self,
        credit: int,
        buffer_size: int,
        budget: Budget,
        *,
        resumable: bool = False,
        wake: Callable[["Session"], None] = lambda _: None,
    ) -> None:
        self.inbox = Inbox(buffer_size, budget)
        self.outbox = Outbox(buffer_size, budget, credit)
        self.last_data = monotonic()
        self.resumable = resumable
        self.readable: Callable[[], None] = _nothing
        """Called when there may be something to receive, for who does not wait in `recv`."""
        self.cut: Callable[[], None] = _nothing
        """Called when the session breaks and no reader would notice, to wake who waits beside it."""
        self.flows: Callable[[], Flows | None] = _nothing
        """Looks up the datagrams of what carries the session, or did so last."""
        self.moved: Callable[[], None] = _nothing
        """Called when another stream carries it."""
        self.attached: Callable[[], None] = _nothing
        """Called when there is another stream."""
        self._liveness = Liveness()
        self._writer = Writer(self.inbox, self.outbox, self._liveness, self._lost)
        self._wake = wake
        self._frames = FrameReader()
        self._readable, self._writable, self._over = Event(), Event(), Event()
        self._unread = Event()  # nobody reads a stream, and nobody will
        self._unread.set()

    # What an owner does with it.

    def when_over(self, call: Callable[[], None]) -> None:
        """Have `call` called once the session needs no stream any more: at once, if that is so already."""
        if self.over:
            call()
        else:
            self._when_over = (*self._when_over, call)

    def grant(self, credit: int) -> None:
        """The peer takes `credit` bytes before its first ACK: more than was known at the start."""
        self.outbox.limit = max(self.outbox.limit, credit)
        self._writable.set()

    @property
    def error(self) -> LaneError | None:
        """What ended the session, if that was no clean end."""
        return self._failure.build() if self._failure else None

    @property
    def over(self) -> bool:
        """Whether nothing of the session is left to be carried."""
        return bool(self._over.is_set())

    @property
    def complete(self) -> bool:
        """Whether all was consumed, both ends included, and both sides know it."""
        return self.inbox.ended and self.outbox.fin_acked

    @property
    def parted(self) -> bool:
        """Whether both sides said that all is complete."""
        return self._free

    @property
    def carried(self) -> bool:
        """Whether there is a stream."""
        return self._writer.stream is not None

    @property
    def held(self) -> float:
        """Seconds in which streams did not take what there was to send."""
        return self._writer.held

    @property
    def retained(self) -> int:
        """Bytes that are held, for the owner and for the peer."""
        return self.inbox.held + self.outbox.retained

    def recv(self, limit: int = READ_SIZE) -> Buffer:
        """Block for 1 to `limit` bytes; `b""` once the peer has finished. What came before is consumed.

        Raises Reset or Closed, after the data that came before it.
        """
        self.consumed()
        inbox = self.inbox
        while not inbox.held:
            if inbox.at_end:
                if not inbox.ended:
                    inbox.take_end()
                    if not self.outbox.fin_acked:  # else END says it
                        self._writer.flush()
                return b""
            if self._failure:
                raise self._failure.build()
            self._readable.clear()
            self._readable.wait()  # no limit: a session that is idle for too long is reset
        return inbox.take(limit)

    @property
    def ready(self) -> bool:
        """Whether `recv` would not wait."""
        return bool(self.inbox.held or self.inbox.at_end or self._failure)

    def consumed(self) -> None:
        """What was received has left the process; `recv` supposes so, too."""
        self.inbox.consume()
        if self.inbox.ack_due:
            self._writer.flush()

    def sendall(self, data: Buffer) -> None:
        """Take all of `data`; block while the peer's window is full. Raises Reset or Closed."""
        view = memoryview(data)
        start = 0
        while start < len(view):
            if self.outbox.final is not None:
                raise Closed("this direction is finished")
            # Credit is looked up under it: a PONG promises that we know the newest.
            with self._writer.lock:  # no limit: see `Writer.lock`
                if self._failure:
                    raise self._failure.build()
                size = self.outbox.allowance(min(len(view) - start, PIECE))
                if size:
                    piece = view[start : start + size]
                    if not isinstance(data, bytes):  # it may change
                        piece = memoryview(bytes(piece))
                    self._writer.send(piece)
                    start += size
                    continue
            self._writable.clear()
            if self.outbox.held_back and not self._liveness.asked:
                self._writer.ask = True  # the peer would wait for more before it acknowledges
                self._writer.flush()
            self._writable.wait()  # no limit: a session that is idle for too long is reset
        if self._failure:
            raise self._failure.build()
        self.last_data = monotonic()
        self._liveness.moved()
        self._wake(self)

    def finish(self) -> None:
        """Half-close our direction. Idempotent."""
        if self.outbox.final is None and not self._failure:
            with self._writer.lock:  # no limit: see `Writer.lock`
                self._writer.finish()
            if self._failure:
                raise self._failure.build()

    def reset(self, code: int = 0) -> None:
        """Abort both directions; the peer learns `code`. Never blocks."""
        if not self._failure and not self._closing:
            self._fail(Closed("the session was reset on this side"))
            self.cut()
            self._part(code)
        elif self._failure and not self._closing:
            self.cut()  # somebody may wait beside a session that was lost long ago
        self._release()

    def close(self) -> None:
        """End the session: once both directions are finished and consumed, otherwise as a reset.

        Blocks while the peer is still consuming.
        """
        if self._closing or self._failure or not self.inbox.ended:
            self.reset()
            return
        try:
            self.finish()
            while not self.outbox.fin_acked and not self._failure:
                self._writable.clear()
                self._writable.wait()  # no limit: a session that is idle for too long is reset
            if not self._failure:
                self._closing = True
                frames, stream = self._frames, self._writer.stream
                self._writer.end()
                self._unread.wait(LINGER)
                self._free = frames.rest is not None and stream is not None and self._failure is None
        except LaneError:
            pass  # all that mattered has been acknowledged, or `error` says that it was not
        finally:
            self._release()
            if not self._free and (stream := self._writer.stream) is not None:
                stream.close()

    @property
    def unsaid(self) -> bool:
        """Whether it was reset on this side, and the peer may not know."""
        return self._parting is not None and not self._parting.heard

    def fail(self, error: LaneError) -> None:
        """End the session with `error`: nothing will carry it any more."""
        self._fail(error)
        if self._parting is None:
            self._writer.detach(reset_code(0))

    def completed(self) -> None:
        """The peer says that all is complete, though its last ACK was lost."""
        if self.outbox.final is None or not self.inbox.ended:
            self.fail(ProtocolError("the peer takes for complete what is not"))
            return
        self.outbox.acknowledge(self.outbox.final + 1, 0)
        self._writable.set()

    def stir(self, size: int, *, came: bool) -> None:
        """A packet of `size` bytes came beside the stream of the session, or went: it is active."""
        now = self.last_data = monotonic()
        self.beside += size
        self._liveness.moved()
        if came:
            self._liveness.heard = now
        else:
            self._sent_beside = now
        self._wake(self)

    @property
    def sending(self) -> bool:
        """Whether what is sent, and what is lost of it, tells something of the carrier."""
        return bool(self.outbox.retained) or monotonic() - self._sent_beside < RECENT

    def silence(self, now: float) -> float:
        """Seconds for which nothing came though it was asked for; 0 where all is well."""
        return self._liveness.silence(now) if self.carried else 0.0

    def backlog(self, now: float) -> float:
        """Seconds that an answer has been due: on a lane that takes too little it waits behind data."""
        return self._liveness.waiting(now) if self.carried else 0.0

    def ask(self) -> None:
        """Have the peer answer, unless it has to already."""
        if self.carried and not self._liveness.asked:
            self._writer.ask = True
            self._writer.flush_soon()

    def tick(self, now: float) -> bool:
        """Look after what no caller would: late ACKs, liveness, unused windows. False: nothing is left."""
        if self._failure or self._closing:
            return False
        inbox, writer, age = self.inbox, self._writer, now - self.last_data
        writer.tell = writer.tell or inbox.ack_possible
        if age < ACTIVE and self._liveness.silent(now):
            writer.ask = True
        if age > IDLE and not self._shrinking and inbox.shrink():
            writer.tell = writer.ask = self._shrinking = True
        if self.reports and age < ACTIVE and now - self._reported >= REPORT and self.sending:
            self._reported = now
            writer.report = True
        if writer.tell or writer.ask or writer.report:
            writer.flush_soon()
        return age < ACTIVE or self._shrinking or inbox.window > inbox.initial

    # The stream's side.

    @property
    def arrived(self) -> int:
        """How far the peer's data came, its FIN included: what RECEIVED says."""
        return self.inbox.arrived

    def leave(self) -> None:
        """Give up the stream that carries the session now."""
        self._writer.detach()

    def carry(
        self,
        stream: Stream,
        stats: Callable[[], LinkStats],
        *,
        first: bytes = b"",
        early: bytes = b"",
        resumed: bool = False,
        announced: bool = False,
        flows: Callable[[], Flows | None] = lambda: None,
    ) -> bytes | None:
        """Live on `stream` until it ends, another one takes over, or the session is over.

        `first` is sent before anything else, `early` is what was read of the stream already. `stats` looks
        up what the carrier knows. `resumed`: the session lived before, and frames begin with RECEIVED, ours
        as well unless that was `announced`. `flows` looks up the datagrams of the carrier. Returns what came
        behind the session if another one may follow on the stream; else None, and the stream is closed or
        was reset.
        """
        if self._failure or self._closing:
            self._turn_away(stream, first)
            return None
        self._writer.detach()
        frames = self._frames = FrameReader()
        self._liveness.begin(stats)
        self.told = None
        self._unread.clear()
        self._writer.attach(stream, first, resumed=resumed, announce=resumed and not announced)
        self.flows = flows
        self.moved()
        if self._shrinking:
            self._writer.ask = True
        self.attached()
        try:
            self._read(stream, frames, early)
        except LaneError as error:
            self._lost(stream, error)
        finally:
            if self._frames is frames:
                self._unread.set()
        if frames.rest is None:
            return None
        self._over.wait()  # no limit: a session that is idle for too long is reset
        return frames.rest if self._free else None

    def _read(self, stream: Stream, frames: FrameReader, early: bytes) -> None:
        recv = receiver(stream)
        data: bytes | memoryview = early or recv(READ_SIZE)
        while data:
            if self._writer.stream is not stream:
                return  # another one took over
            if self._failure is None:
                self._try_take_in(data, frames)
            data = b""  # a reader that waits holds nothing
            if frames.rest is not None:
                return  # what comes now is for somebody else
            be_fair()
            data = recv(READ_SIZE)
        if self._parting:
            self._parting.answered(None)
        raise Closed("the stream ended in the middle of the session")

    def _try_take_in(self, data: bytes | memoryview, frames: FrameReader) -> None:
        """As `_take_in`; what is no protocol aborts the session."""
        try:
            self._take_in(data, frames)
        except ProtocolError as error:
            self._fail(error)
            self._part(0)

    def _take_in(self, data: bytes | memoryview, frames: FrameReader) -> None:
        """Act on what came over the stream. Raises ProtocolError."""
        self._liveness.heard = monotonic()
        known = self.inbox.received, self.inbox.final
        for number, frame in enumerate(frames.each(data, TURN), 1):
            if self._failure or self._frames is not frames:  # it broke, or another stream took over
                return
            self._receive(frame)
            if number % TURN == 0:
                be_fair()
        if (self.inbox.received, self.inbox.final) != known:
            self._moved()
            self._empty = min(EMPTY, self._empty + (self.inbox.received - known[0]) / EMPTY_SIZE)
            if self.inbox.ack_due:
                self._writer.flush_soon()
            if self.ready:
                self._tell_reader()
                gevent.sleep(0)  # what came should move on before more is read

    def _receive(self, frame: Frame) -> None:
        """Take one frame from the peer. Raises ProtocolError."""
        match frame:
            case Data(offset, data):
                live, known = self._liveness, self.inbox.received
                self.inbox.receive(offset, data, live.heard, live.rtt(), self.offer)
                if self.inbox.received == known:
                    self._said_nothing()
            case Ack(consumed, window):
                if (consumed, consumed + window) == (self.outbox.acked, self.outbox.limit):
                    self._said_nothing()
                self.outbox.acknowledge(consumed, window)
                self._writable.set()
            case Fin(final):
                self.inbox.finish(final)
            case ResetFrame(code):
                self.fail(Reset(code))
            case End() if not self.complete:
                raise ProtocolError("an end in the middle of the session")
            case Ping(value):
                self._said_nothing()
                self._liveness.questioned()
                self._writer.pong = value
                self.inbox.urge()
                self._writer.flush_soon()
            case Pong(value) if self._liveness.answered(value):
                self._writable.set()
                if self._shrinking:
                    self._shrinking = False
                    self.inbox.shrunk()
            case Stats():
                self._said_nothing()
                self.told = frame
            case Received(offset):
                self._writer.resume(offset)
            case Pong():
                self._said_nothing()

    def _said_nothing(self) -> None:
        """A frame told nothing new, or asks: it costs the peer little, and us. Raises ProtocolError."""
        now = self._liveness.heard
        self._empty = min(EMPTY, self._empty + (now - self._empty_since) * EMPTY_RATE) - 1
        self._empty_since = now
        if self._empty < 0:
            raise ProtocolError("too many frames that say nothing")

    def _tell_reader(self) -> None:
        self._readable.set()
        self.readable()

    def _moved(self) -> None:
        """Data came: the session is active."""
        self.last_data = self._liveness.heard
        self._liveness.moved()
        self._wake(self)

    # The end.

    def _lost(self, stream: Stream, error: LaneError) -> None:
        """Nothing comes or goes over `stream` any more."""
        if self._writer.stream is not stream:
            stream.reset()
            return  # another one took over
        if self._parting:
            self._parting.answered(error)
            return  # `_abort` lets go of it
        code = aborted(error.code) if isinstance(error, Reset) else None
        if code is not None and not self.complete:
            self.fail(Reset(code))
            return
        self._writer.detach()
        if not self.complete and not self.resumable:
            self._fail(error)

    def _fail(self, error: LaneError) -> None:
        """The session is over; data that came before may still be received."""
        if self._failure is None:
            self._failure = Failure.of(error)
            self.outbox.release()
            if self.inbox.ended:
                self.cut()
            self._end()
        self._tell_reader()
        self._writable.set()

    def _end(self) -> None:
        if not self._over.is_set():
            self._over.set()
            calls, self._when_over = self._when_over, ()
            for call in calls:
                call()

    def _part(self, code: int) -> None:
        """Tell the peer that the session was aborted: now, or on the next stream."""
        if self._parting is None:
            parting = self._parting = Parting(code)
            if (stream := self._writer.stream) is not None:
                self.parting = gevent.spawn(self._abort, parting, stream)

    def _abort(self, parting: Parting, stream: Stream) -> None:
        parting.on(stream, partial(self._writer.abort, parting.code), self._unread)
        self._writer.detach(reset_code(parting.code))

    def _turn_away(self, stream: Stream, first: bytes) -> None:
        """The session was over before `stream` could carry it."""
        if self.unsaid and self._parting:
            self._parting.alone(stream, first)
        else:
            stream.reset(reset_code(0) if self._failure else 0)

    def _release(self) -> None:
        self.inbox.release()
        self.outbox.release()
        self._end()
