"""Reads the stream that carries a session at present, and ends the session when it is over.

One greenlet reads, in `carry`. Nothing may block it for long, because it also receives the ACKs for our own
data. Received bytes go to the owner or into the receive window. Answers go out with the next write (see
`stream_writer`).
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event

from lane.errors import Closed, LaneError, ProtocolError
from lane.fair import AT_ONCE, maybe_yield
from lane.proto.frames import reset_code
from lane.session.aborting import say_abort
from lane.session.activity import AWAKE
from lane.session.events import DataReceived, Notice
from lane.session.flows import Flows
from lane.session.frame_writer import ACK_DUE, PONG_DUE
from lane.session.owner import Owner
from lane.session.protocol import SessionProtocol
from lane.session.states import Life
from lane.session.stream_writer import StreamWriter
from lane.stream import LinkStats, Stream, receiver
from lane.supervisor import report

READ_SIZE = 279552
"""Bytes of one read from a stream: two full frames, and for TLS the rest of a record before them."""
SHORT = 16384
"""Bytes of the longest messages that may go the short way: a full record of TLS."""
BULK = 32768
"""Bytes of a read from which it counts as a part of a bulk transfer, in which users take turns."""

_NOBODY_READS = Event()
"""The event of a session without a stream. It is set, like that of a stream that nobody reads any more."""
_NOBODY_READS.set()


def _ignore() -> None:
    """Do nothing."""


class StreamReader(StreamWriter):
    """The reading part of a session, which is a part of the same object as well: see `StreamWriter`."""

    aborting: "gevent.Greenlet[..., None] | None" = None
    """The greenlet that tells the peer of an abort, for some seconds at most."""
    _when_over: tuple[Callable[[], None], ...] = ()

    def __init__(self, protocol: SessionProtocol, wake: Callable[[Any], None], owner: Owner) -> None:
        super().__init__(protocol, wake)
        self.asked_to_move: Callable[[], None] = _ignore
        """Called when the peer asks that the session move to another carrier. It must not block."""
        self._owner = owner
        self._stats: Callable[[], LinkStats] = LinkStats
        self._readable, self._writable, self._over = Event(), Event(), Event()
        self._unread = _NOBODY_READS

    def when_over(self, call: Callable[[], None]) -> None:
        """Call `call` once, when the session needs no stream any more: now, if it is over already."""
        if self.over:
            call()
        else:
            self._when_over = (*self._when_over, call)

    def fail(self, error: LaneError) -> None:
        """End the session with `error`. No stream will carry it any more."""
        self.protocol.fail(error)
        if self.aborting is None:
            self.detach(reset_code(0))
        self._settle()

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
        """Live on `stream` until it ends, another stream takes over, or the session is over.

        `first`: bytes to send in front of all frames. `early`: bytes that were read from the stream already.
        `stats` and `flows` look up the carrier's figures and datagrams. `resumed`: the session had a stream
        before, so frames begin with RECEIVED; ours do not if that was `announced`. An aborted session only
        tells the peer so. Returns the bytes behind the session if the stream is free for another session;
        else None, and the stream was closed or reset.
        """
        protocol = self.protocol
        if protocol.life not in (Life.OPEN, Life.ABORTING):
            stream.reset(reset_code(0) if protocol.failure else 0)
            return None
        if self._stream is not None:
            self.detach()
        unread = self._unread = Event()
        self._stats = stats
        protocol.attach(monotonic(), preface=first, resumed=resumed, announce=resumed and not announced)
        self._stream = stream
        if self.send_buffer.retained:
            self._wake(self)
        if protocol.over:
            self._say_abort()
        else:
            if resumed or self._lock.locked():  # by a write to the last stream
                self._write_soon()  # both sides may have much to send again, and must read meanwhile
            elif first or self.send_buffer.sent or self.send_buffer.final is not None:
                self._write_locked()
            self._owner.carrier_changed(flows)
        hand_short_to = getattr(stream, "hand_short_to", None)
        if hand_short_to is not None:
            hand_short_to(self._take_message)
        try:
            self._read(stream, early)
        except LaneError as error:
            self._lost(stream, error)
        except Exception as error:  # bytes may count as received and be lost, so none may follow them
            report("the reader of a session", error)
            self.fail(Closed("reading it failed"))
        finally:
            if hand_short_to is not None:
                hand_short_to(None)  # it refers to the session
            unread.set()
        if protocol.trailing_data is None or self._stream is not stream:
            return None
        self._over.wait()  # no limit: a session that is idle for too long is reset
        free = self.parted and self._stream is stream and not self._lock.locked()
        return protocol.trailing_data if free else None

    def _read(self, stream: Stream, early: bytes) -> None:
        recv, protocol = receiver(stream), self.protocol
        loop, waited_in, short = self._round, self._round.began, 0
        data: bytes | memoryview = early or recv(READ_SIZE)
        while data:
            if self._stream is not stream:
                return  # another stream took over
            if not protocol.over:
                self._take_in(data)
            size, data = len(data), b""  # a reader that waits keeps no memory
            if protocol.trailing_data is not None and self._stream is stream:
                return  # the next bytes belong to another session
            if size >= BULK:
                self._owner.gates.turn(size, waited_in)
            elif loop.began == waited_in and (short := short + 1) % AT_ONCE == 0:
                maybe_yield(waited_in)
            waited_in = loop.began
            data = recv(READ_SIZE)
        self._lost(stream, None)

    def _take_in(self, data: bytes | memoryview) -> None:
        """Handle bytes from the stream. A violation of the protocol aborts the session."""
        protocol, progress = self.protocol, False
        if len(data) <= SHORT and self._take_message(data):
            if protocol.readable:
                gevent.sleep(0)  # the data should move on before more is read
            return
        now = monotonic()
        if now >= protocol.liveness.link_expires:
            protocol.liveness.measured(self._stats(), now)
        try:
            for event in protocol.receive_data(data, now):
                if type(event) is DataReceived:
                    event.taken = self._owner.offer(event.data)
                elif event is Notice.CREDIT:
                    self._writable.set()
                elif event is Notice.PROGRESS:
                    progress = True
                elif event is Notice.PAUSE:
                    maybe_yield()
                elif event is Notice.MOVE:
                    self.asked_to_move()
                else:
                    self._writable.set()
                    self._write_soon()
        except ProtocolError:
            if self.abort_unheard and self.aborting is None:
                self._say_abort()
        if protocol.over and self.aborting is None:  # the peer aborted it, or broke the protocol at its end
            self.detach(reset_code(0))
        if protocol.over:
            self._settle()
        if progress:
            self._wake(self)
        if protocol.writer.due & (ACK_DUE | PONG_DUE) or (progress and self.receive_window.ack_due):
            self._flush_soon()
        if progress and protocol.readable:
            self._tell_reader()
            gevent.sleep(0)  # the data should move on before more is read

    def _take_message(self, data: bytes | memoryview) -> bool:
        """Handle bytes from the stream if they are one short message, and return whether they are.

        It does not block: the event loop calls this as well, instead of waking the reader.
        """
        protocol, now = self.protocol, monotonic()
        quiet = now - protocol.activity.last_data
        if not self._writable.is_set() or (fresh := protocol.receive_message(data, now)) is None:
            return False  # somebody waits for credit, or it is something else
        taken = self._owner.offer(fresh)
        self.receive_window.pass_on(fresh, taken)
        if quiet > AWAKE:
            self._wake(self)
        if protocol.writer.due & PONG_DUE or self.receive_window.ack_due:
            self._flush_soon()
        if taken < len(fresh):
            self._tell_reader()
        return True

    def _tell_reader(self) -> None:
        self._readable.set()
        self._owner.readable()

    def _lost(self, stream: Stream, error: LaneError | None) -> None:
        if self._stream is not stream:
            stream.reset()
            return  # another stream took over
        self.protocol.stream_lost(error)
        if self.aborting is None:  # else `_abort` lets go of it
            self.detach(reset_code(0) if self.over else 0)
        self._settle()

    def _settle(self) -> None:
        """If the session is over, tell the owner, the readers and the writers, once."""
        if not self.over or self._over.is_set():
            return
        if self.protocol.failure and self.receive_window.ended:
            self._owner.broken()
        self._over.set()
        self.asked_to_move = _ignore  # it may refer to the session
        calls, self._when_over = self._when_over, ()
        for call in calls:
            call()
        if self.protocol.failure:
            self._tell_reader()
            self._writable.set()

    def _say_abort(self) -> None:
        """Tell the peer that the session was aborted. Without a stream, the next one does."""
        if (stream := self._stream) is not None:
            self.aborting = gevent.spawn(self._abort, stream, self._unread)

    def _abort(self, stream: Stream, unread: Event) -> None:
        code = self.protocol.abort_code or 0

        def say() -> None:
            with self._lock:  # no limit: `say_abort` has one
                self._write()
                stream.finish()

        say_abort(stream, code, say, unread)
        if self._stream is stream:
            self.detach(reset_code(code))
