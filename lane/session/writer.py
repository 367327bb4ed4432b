"""What a session says: its frames, in order, over whatever stream carries it at the moment.

Writers share one lock; the holder also sends the small control frames that came up meanwhile, so that
nobody waits behind a full transport to send an ACK. What is sent is retained until the peer has consumed
it, so a stream that is lost loses nothing: the next one begins where the peer says that it is, and what
was written before or meanwhile is written again from there.
"""

from collections.abc import Callable
from time import monotonic

from gevent.lock import BoundedSemaphore

from lane.errors import Closed, LaneError, ProtocolError
from lane.fair import this_round
from lane.proto.frames import (
    Ack,
    End,
    Fin,
    Ping,
    Pong,
    Received,
    ResetFrame,
    Stats,
    data_head,
    pack,
)
from lane.session.liveness import Liveness
from lane.session.window import Buffer, Inbox, Outbox
from lane.stream import LinkStats, Stream, send_joined
from lane.tasks import start

PIECE = 130560
"""The most data that go into one frame, bytes.

With what TLS adds, and without it, they fill two segments of loopback (MTU 65536). What is over would go
in a tiny third one, and wake whoever gets it once more.
"""


_MOST = (1 << 32) - 1, (1 << 64) - 1, (1 << 64) - 1
"""What the fields of STATS hold."""


class Writer:
    """`lost(stream, error)` hears that writing to a stream failed."""

    def __init__(
        self, inbox: Inbox, outbox: Outbox, liveness: Liveness, lost: Callable[[Stream, LaneError], None]
    ) -> None:
        self.stream: Stream | None = None
        """What carries the session now."""
        self.lock = BoundedSemaphore(1)
        """Who has it may be held up by the stream: until that is lost, or `detach` resets it."""
        self.pong: int | None = None
        """The value of a PING that is to be answered."""
        self.ask = False
        """Whether a PING is to be sent."""
        self.tell = False
        """Whether an ACK is to be sent even though it is not due."""
        self.report = False
        """Whether STATS are to be sent."""
        self.held = 0.0
        """Seconds that streams did not take at once what there was to send."""
        self._inbox = inbox
        self._outbox = outbox
        self._liveness = liveness
        self._lost = lost
        self._round = this_round()
        self._first = b""  # what goes before all frames
        self._announce = False  # RECEIVED is to be sent
        self._cursor: int | None = 0  # what was written to this stream ends here; None: the peer has not said
        self._fin_told = False
        self._ended = False  # END was said: nothing may follow
        self._flushing = False  # somebody is about to

    def attach(self, stream: Stream, first: bytes, *, resumed: bool, announce: bool) -> None:
        """Write to `stream` from now on, `first` before anything else.

        `resumed`: the peer says how far it came before we go on. `announce`: it must hear the same of us.
        """
        self._first = first
        self.stream = stream
        self._announce = announce
        self._cursor = None if resumed else 0
        self.pong, self.ask, self.report = None, False, False
        self.tell = resumed  # the last ACK may be lost
        if first or announce or self._outbox.sent or self._outbox.final is not None:
            start(self._catch_up_alone)  # whoever has the lock may be busy with the stream before

    def detach(self, code: int = 0) -> None:
        """Write to nothing, until there is another stream. Whoever is writing fails, and does not mind.

        `code`: what the stream is reset with.
        """
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.reset(code)

    def resume(self, arrived: int) -> None:
        """The peer has all before `arrived`: go on from there. Raises ProtocolError, the second time too."""
        if self._cursor is not None:
            raise ProtocolError("RECEIVED where it was not due")
        self._outbox.resume(arrived)
        self._cursor = min(arrived, self._outbox.sent)
        self._fin_told = arrived > self._outbox.sent
        start(self._catch_up_alone)

    def send(self, piece: Buffer) -> None:
        """Send data within the allowance, under the lock. They must not change any more."""
        offset = self._outbox.send(piece)
        if self._cursor == offset:
            self._cursor += len(piece)
            self.write(data_head(offset, len(piece)), piece)
        else:
            self._catch_up()

    def finish(self) -> None:
        """End our direction, under the lock."""
        self._outbox.finish()
        self._catch_up()

    def write(self, head: bytes, data: Buffer = b"") -> None:
        """Send `head` and `data`, and all control frames that wait, under the lock."""
        stream = self.stream
        if stream is None or self._ended:
            return  # what matters is retained
        began, turn = monotonic(), self._round.began
        try:
            head = self._control(self._inbox.ack_possible) + head
            if data:
                send_joined(stream, head, data)
            elif head:
                stream.sendall(head)
            while stream is self.stream and (control := self._control(self._inbox.ack_due)):
                stream.sendall(control)
        except LaneError as error:
            self._lost(stream, error)
        except BaseException:  # a deadline of the caller's: it may have left half a frame behind
            self._lost(stream, Closed("a write was cut off"))
            raise
        finally:
            if self._round.began != turn:  # the event loop went around: it was not taken at once
                self.held += monotonic() - began

    def flush(self) -> None:
        """Send control frames, unless somebody is writing, who will do it."""
        if not self.lock.locked() and self.stream is not None:
            with self.lock:  # no limit: it is free now
                self.write(b"")

    def flush_soon(self) -> None:
        """Send control frames without waiting for it."""
        if not self.lock.locked() and not self._flushing:
            self._flushing = True
            start(self._flush_now)

    def end(self) -> None:
        """Send what waits, and END: nothing of the session may follow it."""
        with self.lock:  # no limit: see the lock
            self.write(pack(End()))
            self._ended = True

    def abort(self, code: int) -> None:
        """Send RESET, and end our direction of the stream. Raises Closed."""
        with self.lock:  # no limit: see the lock
            if (stream := self.stream) is not None:
                stream.sendall(pack(ResetFrame(code)))
                stream.finish()

    def _catch_up_alone(self) -> None:
        with self.lock:  # no limit: see the lock
            self.write(b"")
            self._catch_up()

    def _catch_up(self) -> None:
        """Write what the stream lacks, and FIN if that follows; under the lock.

        A session that is over keeps its stream for a moment, to say so, and lacks nothing any more.
        """
        outbox = self._outbox
        while self.stream is not None and self._cursor is not None and not outbox.released:
            at = self._cursor = max(self._cursor, min(outbox.acked, outbox.sent))
            if at < outbox.sent:
                piece = outbox.again(at, PIECE)
                self._cursor += len(piece)
                self.write(data_head(at, len(piece)), piece)
            elif outbox.final is not None and not self._fin_told:
                self._fin_told = True
                self.write(pack(Fin(outbox.final)))
            else:
                break

    def _control(self, acknowledge: bool) -> bytes:
        """The control frames that are to be sent now."""
        out, self._first = self._first, b""
        if self._announce:
            self._announce = False
            out += pack(Received(self._inbox.arrived))
        if acknowledge or self.tell:
            self.tell = False
            out += pack(Ack(*self._inbox.acknowledge(monotonic())))
        if self.pong is not None:
            out += pack(Pong(self.pong))
            self.pong = None
        if self.ask:
            self.ask = False
            out += pack(Ping(self._liveness.ask()))
        if self.report:
            self.report = False
            out += pack(_stats(self._liveness.stats(), self.held))
        return out

    def _flush_now(self) -> None:
        self._flushing = False
        self.flush()


def _stats(link: LinkStats, held: float) -> Stats:
    """As the peer is told. What a foreign transport may have counted wrong is 0."""
    try:
        figures = int((link.rtt or 0) * 1e6), int(link.sent), int(link.lost)
    except (TypeError, ValueError, OverflowError):
        figures = 0, 0, 0
    rtt, sent, lost = (min(max(figure, 0), most) for figure, most in zip(figures, _MOST, strict=True))
    return Stats(rtt, sent, lost, int(held * 1e6))
