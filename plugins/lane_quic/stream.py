"""One stream of a QUIC carrier, with blocking reads and writes.

A writer blocks while its stream has too much unsent data, and continues when half of that has been sent. Sent
data that is not acknowledged yet is bounded by the congestion window. Reading gives the peer new credit.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from gevent.event import Event

from lane.errors import Closed, Failure, LaneError, Reset
from lane.net.sleeper import SHORT
from lane_quic.engine.connection_view import UNSENT_LEAST
from lane_quic.engine.engine import Engine

SMALL_CHUNK = 1024
"""Unread pieces are joined up to this many bytes. Each piece costs memory beside its data."""


class StreamCarrier(Protocol):
    """The parts of a carrier that its streams use."""

    engine: Engine
    waiting: "set[QuicStream]"
    """The streams whose writers wait for room."""

    def flush_soon(self) -> None:
        """Send the engine's data at the end of this turn of the event loop."""

    def forget(self, stream: "QuicStream") -> bool:
        """Drop a stream. False if it was dropped before."""

    def hurry(self, now: float) -> None:
        """Let short messages wait less for bulk transfers."""


class _Nobody:
    """The carrier of streams that have ended."""

    engine: Engine

    def __init__(self) -> None:
        self.waiting: set[QuicStream] = set()

    def flush_soon(self) -> None:
        """There is nothing to send."""

    def forget(self, stream: "QuicStream") -> bool:
        """It was dropped before."""
        return False

    def hurry(self, now: float) -> None:
        """Nobody waits."""


_NOBODY = _Nobody()


class QuicStream:
    """One stream of a carrier. Once it has failed, it refers to its carrier no more."""

    def __init__(self, carrier: StreamCarrier, stream_id: int) -> None:
        self._carrier: StreamCarrier = carrier
        self._engine = carrier.engine
        self.id = stream_id
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._read = 0
        self._eof = False
        self._finished = False
        self._take: Callable[[bytes], bool] | None = None  # for what is short: see `HandsShort`
        self._sleeps = False  # the reader waits
        self._cut = False  # a `sendall` is running or was interrupted: its data is incomplete
        self._stopped: Failure[Reset] | None = None  # the peer stopped reading (STOP_SENDING)
        self._failure: Failure[Any] | None = None
        self._readable, self._writable = Event(), Event()

    def recv(self, limit: int = 262144) -> bytes:
        """See `lane.stream.Stream`."""
        while not self._chunks:
            if self._failure:
                raise self._failure.build()
            if self._eof:
                self._forget()
                return b""
            self._readable.clear()
            self._sleeps = True
            try:
                self._readable.wait()  # no limit: the caller has one, and a dead connection ends
            finally:
                self._sleeps = False
        data = self._pop(limit)
        self._unread -= len(data)
        self._consumed(len(data))
        return data

    def _consumed(self, size: int) -> None:
        self._read += size
        if self._engine.consume(self.id, size, self._read):
            self._carrier.flush_soon()

    def hand_short_to(self, take: Callable[[bytes], bool] | None) -> None:
        """See `lane.stream.HandsShort`."""
        self._take = take

    def _pop(self, limit: int) -> bytes:
        chunks = self._chunks
        if self._unread <= limit:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            return data
        taken, room = [], limit
        while room:
            chunk = chunks.popleft()
            if len(chunk) > room:
                chunks.appendleft(chunk[room:])
                chunk = chunk[:room]
            taken.append(chunk)
            room -= len(chunk)
        return b"".join(taken)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """See `lane.stream.Stream`."""
        self._check()
        self._cut = True
        view, start = memoryview(data), 0
        if len(view) <= UNSENT_LEAST and self._engine.unsent(self.id) < UNSENT_LEAST:  # there is room
            self._engine.send_stream_data(self.id, view)  # type: ignore[arg-type]  # the data is only copied
            self._carrier.flush_soon()
            start = len(view)
        if not view:  # what `send_now` left
            self._await_room()
        while start < len(view):
            self._await_room()
            piece = view[start : start + self._engine.unsent_limit]
            self._engine.send_stream_data(self.id, piece)  # type: ignore[arg-type]  # the data is only copied
            self._carrier.flush_soon()
            start += len(piece)
        self._cut = False

    def send_now(self, data: bytes) -> bool:
        """See `lane.stream.SendsNow`."""
        self._check()
        if self._cut:
            raise Closed("another sendall was not completed")
        self._engine.send_stream_data(self.id, data)
        self._carrier.flush_soon()
        unsent = self._engine.unsent(self.id)
        return unsent < UNSENT_LEAST or unsent < self._engine.unsent_limit

    def renew(self) -> bool:
        """See `lane.stream.Renews`."""
        done = self._failure or self._stopped or self._finished or self._eof or self._cut or self._unread
        if done or not self._engine.all_arrived(self.id):
            return False
        self._carrier.hurry(monotonic())
        return True

    def _check(self) -> None:
        if failure := self._failure or self._stopped:
            raise failure.build()
        if self._finished:
            raise Closed("this direction is finished")

    def _await_room(self) -> None:
        self._check()
        if self._engine.unsent(self.id) < self._engine.unsent_limit:
            return
        waiting = self._carrier.waiting
        waiting.add(self)
        try:
            while not (self._failure or self._stopped or self._finished) and not self._has_room():
                self._writable.clear()
                self._writable.wait()  # no limit: the caller has one, and a dead connection ends
        finally:
            waiting.discard(self)
        self._check()

    def finish(self) -> None:
        """See `lane.stream.Stream`."""
        if self._cut:
            self.reset()
        elif not self._finished and not self._failure:
            self._finished = True
            if not self._stopped:
                self._engine.send_stream_data(self.id, b"", end_stream=True)
                self._carrier.flush_soon()
            self._forget()

    def abort_sending(self, code: int) -> None:
        """See `lane.stream.AbortsSending`."""
        if self._failure is None:
            self._finished = True
            self._engine.reset_stream(self.id, code)
            self._carrier.flush_soon()
            self._writable.set()

    def reset(self, code: int = 0) -> None:
        """See `lane.stream.Stream`."""
        if self._carrier.forget(self):
            self._engine.reset_stream(self.id, code)
            self._abandon(code)
            self.fail(Closed("the stream was reset on this side"))

    def close(self) -> None:
        """See `lane.stream.Stream`."""
        if self._unread:
            self.reset()
        self.finish()
        if self._carrier.forget(self):
            self._abandon(0)
            self.fail(Closed("the stream was closed on this side"))

    def _abandon(self, code: int) -> None:
        """Stop reading."""
        if not self._eof and self._engine.knows(self.id):
            self._engine.stop_stream(self.id, code)
        self._engine.abandon(self.id, self._read, self._unread)
        self._chunks.clear()
        self._unread = 0
        self._carrier.flush_soon()

    def _forget(self) -> None:
        """Let the carrier drop this stream if both directions are done."""
        if self._finished and self._eof and not self._unread:
            self._carrier.forget(self)

    # Called by the carrier.

    def received(self, data: bytes, end: bool) -> None:
        if self._is_taken(data, end):
            return
        if data:
            if self._chunks and len(self._chunks[-1]) + len(data) <= SMALL_CHUNK:
                self._chunks[-1] += data
            else:
                self._chunks.append(data)
            self._unread += len(data)
        self._eof = self._eof or end
        self._readable.set()

    def _is_taken(self, data: bytes, end: bool) -> bool:
        """Whether it was passed on without the reader, who sleeps."""
        if self._take is None or end or not self._sleeps or self._chunks or not 0 < len(data) < SHORT:
            return False
        try:
            if not self._take(data):
                return False
        except Exception as error:  # it must not end the other streams
            self._failure = self._failure or Failure.of(error)  # for the reader
            self.reset()
        if self._failure is None:  # else it counts as abandoned
            self._consumed(len(data))
        return True

    def was_reset(self, code: int) -> None:
        """The peer reset its direction. That aborts both, unless all its data had arrived."""
        if self._eof:
            self.was_stopped(code)
            return
        self._failure = self._failure or Failure.of(Reset(code & 0xFFFFFFFF))
        self.reset()

    def was_stopped(self, code: int) -> None:
        """The peer stopped reading. The data that it sent remains valid."""
        self._stopped = Failure.of(Reset(code & 0xFFFFFFFF))
        self._writable.set()

    def _has_room(self) -> bool:
        return self._engine.unsent(self.id) <= self._engine.unsent_limit // 2

    def wake_writer(self, limit: int) -> None:
        """Let the writer continue if at most `limit` bytes are unsent."""
        if self._engine.unsent(self.id) <= limit:
            self._writable.set()

    def fail(self, error: LaneError) -> None:
        if self._failure is None:
            self._failure = Failure.of(error)
        self._carrier, self._take = _NOBODY, None
        self._readable.set()
        self._writable.set()
