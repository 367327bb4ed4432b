"""A session: one duplex connection with half-close and reset, in frames over a stream.

One greenlet reads the stream, and nothing may block it for long, because acknowledgements for our own
data come the same way: what it receives goes into the inbox, which the peer's window bounds; what it
has to answer goes out with whoever writes next. Writers share one lock; the holder also sends the small
control frames that came up meanwhile, so that nobody waits behind a full transport to send an ACK.
"""

from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from lane.errors import Closed, LaneError, ProtocolError, Reset
from lane.proto.frames import (
    MAX_PAYLOAD,
    Ack,
    Data,
    End,
    Fin,
    Frame,
    FrameReader,
    Ping,
    Pong,
    ResetFrame,
    data_head,
    pack,
)
from lane.session.fair import be_fair
from lane.session.liveness import Liveness
from lane.session.window import Budget, Buffer, Inbox, Outbox
from lane.stream import Stream, receiver

READ_SIZE = 262144
FIRST_WRITE = 16384
ABORT_WITHIN = 1.0
"""Seconds that a reset may take to reach the peer in good order before the stream is cut."""
LINGER = 5.0
"""Seconds to wait for the peer's END once both directions have been consumed."""
ACTIVE = 3.0
"""Seconds after its last data that a session counts as active."""
IDLE = 10.0
"""Seconds after its last data that a session gives up a window that had grown."""


class Session:
    """Frames over `stream`, which the session owns until it is `free`.

    `credit`: bytes the peer takes before its first ACK. `rtt` looks up the carrier's round trip in
    seconds, None where it is not known. `early`: bytes of the stream that were read already. `wake` is
    called when there is something for `tick` to look after.
    """

    def __init__(
        self,
        stream: Stream,
        credit: int,
        buffer_size: int,
        budget: Budget,
        *,
        rtt: Callable[[], float | None],
        early: bytes = b"",
        wake: Callable[["Session"], None] = lambda _: None,
    ) -> None:
        self.inbox = Inbox(buffer_size, budget)
        self.outbox = Outbox(buffer_size, budget, credit)
        self.last_data = monotonic()
        self.free = False
        """Whether the session is over and the stream can carry another one; else `close` closed it."""
        self.offer: Callable[[Buffer], int] | None = None
        """Takes in received bytes without waiting, from the first on: how many. They count as consumed."""
        self.readable: Callable[[], None] = lambda: None
        """Called when there may be something to receive, for who does not wait in `recv`."""
        self.cut: Callable[[], None] = lambda: None
        """Called when the session breaks and no reader would notice, to wake who waits beside it."""
        self._stream = stream
        self._liveness = Liveness(rtt)
        self._wake = wake
        self._frames = FrameReader()
        self._error: LaneError | None = None
        self._closing = False
        self._readable, self._writable = Event(), Event()
        self._lock = BoundedSemaphore(1)
        self._flushing = False  # somebody is about to
        self._pong: int | None = None
        self._ask = False  # a PING is to be sent
        self._tell = False  # an ACK is to be sent even though it is not due
        self._shrinking = False
        self._reader = gevent.spawn(self._read, early)

    # What an owner does with it.

    def grant(self, credit: int) -> None:
        """The peer takes `credit` bytes before its first ACK: more than was known at the start."""
        self.outbox.limit = max(self.outbox.limit, credit)
        self._writable.set()

    @property
    def error(self) -> LaneError | None:
        """What ended the session, if that was no clean end."""
        return self._error

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
                        self._flush()
                return b""
            if self._error:
                raise self._error
            self._readable.clear()
            self._readable.wait()
        return inbox.take(limit)

    @property
    def ready(self) -> bool:
        """Whether `recv` would not wait."""
        return bool(self.inbox.held or self.inbox.at_end or self._error)

    def consumed(self) -> None:
        """What was received has left the process; `recv` supposes so, too."""
        self.inbox.consume()
        if self.inbox.ack_due:
            self._flush()

    def sendall(self, data: Buffer) -> None:
        """Take all of `data`; block while the peer's window is full. Raises Reset or Closed."""
        view = memoryview(data)
        start = 0
        while start < len(view):
            if self.outbox.final is not None:
                raise Closed("this direction is finished")
            with self._lock:  # credit is looked up under it, since a PONG promises that we know the newest
                if self._error:
                    raise self._error
                size = self.outbox.allowance(min(len(view) - start, MAX_PAYLOAD))
                if size:
                    piece = view[start : start + size]
                    if not isinstance(data, bytes):  # it may change
                        piece = memoryview(bytes(piece))
                    self._write(data_head(self.outbox.send(piece), size), piece)
                    start += size
                    continue
            self._writable.clear()
            if self.outbox.held_back and not self._liveness.asked:
                self._ask = True  # the peer would wait for more before it acknowledges
                self._flush()
            self._writable.wait()
        self.last_data = monotonic()
        self._wake(self)

    def finish(self) -> None:
        """Half-close our direction. Idempotent."""
        if self.outbox.final is None and not self._error:
            with self._lock:
                self._write(pack(Fin(self.outbox.finish())))

    def reset(self, code: int = 0) -> None:
        """Abort both directions; the peer learns `code`. Never blocks."""
        if not self._error and not self._closing:
            self._fail(Closed("the session was reset on this side"))
            self.cut()
            gevent.spawn(self._abort, code)
        elif self._error and not self._closing:
            self.cut()  # somebody may wait beside a session that was lost long ago
        self._release()

    def close(self) -> None:
        """End the session: once both directions are finished and consumed, otherwise as a reset.

        Blocks while the peer is still consuming.
        """
        if self._closing or self._error or not self.inbox.ended:
            self.reset()
            return
        try:
            self.finish()
            while not self.outbox.fin_acked and not self._error:
                self._writable.clear()
                self._writable.wait()
            if not self._error:
                self._say_end()
                self._reader.join(LINGER)
                self.free = self._frames.rest is not None and self._reader.dead and self._error is None
        except LaneError:
            pass  # all that mattered has been acknowledged, or `error` says that it was not
        finally:
            self._release()
            if not self.free:
                self._stream.close()

    @property
    def rest(self) -> bytes:
        """What came over the stream behind the session."""
        return self._frames.rest or b""

    def tick(self, now: float) -> bool:
        """Look after what no caller would: late ACKs, liveness, unused windows. False: nothing is left."""
        if self._error or self._closing:
            return False
        inbox, age = self.inbox, now - self.last_data
        self._tell = self._tell or inbox.ack_possible
        if age < ACTIVE and self._liveness.silent(now):
            self._ask = True
        if age > IDLE and not self._shrinking and inbox.shrink():
            self._tell = self._ask = self._shrinking = True
        if self._tell or self._ask:
            self._flush_soon()
        return age < ACTIVE or self._shrinking or inbox.window > inbox.initial

    # The stream's side.

    def _read(self, early: bytes) -> None:
        try:
            recv = receiver(self._stream)
            data: bytes | memoryview = early or recv(READ_SIZE)
            while data:
                self._take_in(data)
                data = b""  # a reader that waits holds nothing
                if self._frames.rest is not None:
                    return  # what comes now is for somebody else
                be_fair()
                data = recv(READ_SIZE)
            if not (self.inbox.ended and self.outbox.fin_acked):
                raise Closed("the stream ended in the middle of the session")
        except ProtocolError as error:
            self._fail(error)
            gevent.spawn(self._abort, 0)
        except LaneError as error:
            self._fail(error)
            self._stream.reset()

    def _take_in(self, data: bytes | memoryview) -> None:
        """Act on what came over the stream; nothing else runs before all was used.

        Raises ProtocolError or Reset.
        """
        if self._error:
            return
        self._liveness.heard = monotonic()
        known = self.inbox.received, self.inbox.final
        for frame in self._frames.feed(data):
            self._receive(frame)
        if (self.inbox.received, self.inbox.final) != known:
            self._moved()
            if self.inbox.ack_due:
                self._flush_soon()
            if self.ready:
                self._tell_reader()
                gevent.sleep(0)  # what came should move on before more is read

    def _receive(self, frame: Frame) -> None:
        """Take one frame from the peer. Raises ProtocolError or Reset."""
        match frame:
            case Data(offset, data):
                live = self._liveness
                self.inbox.receive(offset, data, live.heard, live.rtt(), self.offer)
            case Ack(consumed, window):
                self.outbox.acknowledge(consumed, window)
                self._writable.set()
            case Fin(final):
                self.inbox.finish(final)
            case ResetFrame(code):
                raise Reset(code)
            case End() if not (self.inbox.ended and self.outbox.fin_acked):
                raise ProtocolError("an end in the middle of the session")
            case Ping(value):
                self._pong = value
                self.inbox.urge()
                self._flush_soon()
            case Pong(value) if self._liveness.answered(value):
                self._writable.set()
                if self._shrinking:
                    self._shrinking = False
                    self.inbox.shrunk()

    def _tell_reader(self) -> None:
        self._readable.set()
        self.readable()

    def _moved(self) -> None:
        """Data came: the session is active."""
        self.last_data = self._liveness.heard
        self._liveness.moved()
        self._wake(self)

    def _write(self, head: bytes, data: Buffer = b"") -> None:
        """Send `head` and `data`, and all control frames that wait, under the lock.

        Only the start of `data` is copied to stand behind its head, so that the first write fills one
        TLS record (16 KB) and the rest, which is most of it, goes out from where it is.
        """
        if self._error:
            raise self._error
        try:
            head = self._control(self.inbox.ack_possible) + head
            room = FIRST_WRITE - len(head)
            if len(data) > room:
                view = memoryview(data)
                self._stream.sendall(b"".join((head, view[:room])))
                self._stream.sendall(view[room:])
            elif data:
                self._stream.sendall(b"".join((head, data)))
            elif head:
                self._stream.sendall(head)
            while control := self._control(self.inbox.ack_due):
                self._stream.sendall(control)
        except LaneError as error:
            self._fail(error)
            raise
        except BaseException:
            self._fail(Closed("a write was cut off"))
            self._stream.reset()
            raise

    def _say_end(self) -> None:
        """Send what waits, and END: nothing of the session may follow it."""
        with self._lock:
            if self._error:
                raise self._error
            end = self._control(self.inbox.ack_possible) + pack(End())
            self._closing = True
            self._stream.sendall(end)

    def _control(self, acknowledge: bool) -> bytes:
        """The control frames that are to be sent now."""
        out = b""
        if self._closing:
            return out
        if acknowledge or self._tell:
            self._tell = False
            out += pack(Ack(*self.inbox.acknowledge(monotonic())))
        if self._pong is not None:
            out += pack(Pong(self._pong))
            self._pong = None
        if self._ask:
            self._ask = False
            out += pack(Ping(self._liveness.ask()))
        return out

    def _flush(self) -> None:
        """Send control frames, unless somebody is writing, who will do it."""
        if self._lock.locked() or self._error:
            return
        with self._lock, suppress(LaneError):  # `error` tells whoever uses the session
            self._write(b"")

    def _flush_soon(self) -> None:
        """Send control frames without waiting for it."""
        if not self._lock.locked() and not self._flushing:
            self._flushing = True
            gevent.spawn(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self._flush()

    # The end.

    def _fail(self, error: LaneError) -> None:
        """The session is over; data that came before may still be received."""
        if self._error is None:
            self._error = error
            self.outbox.release()
            if self.inbox.ended:
                self.cut()
        self._tell_reader()
        self._writable.set()

    def _abort(self, code: int) -> None:
        """Tell the peer, in good order if that is quick, and cut the stream."""
        try:
            with gevent.Timeout(ABORT_WITHIN, False), self._lock:
                self._stream.sendall(pack(ResetFrame(code)))
                self._stream.finish()
                self._reader.join()
        except LaneError:
            pass  # the stream was lost: the peer knows
        finally:
            self._stream.reset()

    def _release(self) -> None:
        self.inbox.release()
        self.outbox.release()
