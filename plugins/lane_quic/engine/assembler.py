"""The receiving half of a stream: aioquic's, with bounds on memory and work.

aioquic keeps the data after a gap in one buffer that begins at the gap, so a single byte far ahead costs a
whole window of memory. It also walks its list of ranges for each frame, so single bytes with gaps between
them cost seconds. Here the pieces are kept as received and found by bisection. Many small pieces end the
connection: an honest peer has one gap for each lost packet, and packets are larger than that.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.stream import FinalSizeError

from lane_quic.engine.wake_flag import WakeFlag
from lane_quic.internals.parts import StreamReceiver

PIECES = 256
"""Pieces with gaps between them that a stream may hold, whatever their size."""
PIECE = 256
"""A stream may hold one piece more for each of so many bytes that it holds."""
SMALL = 1024
"""A piece is joined with the next one up to this size, bytes. Small pieces cost more than their data."""


class Assembler(StreamReceiver):
    """The received bytes of one stream that lie after a gap."""

    stop_pending, is_finished = WakeFlag(True), WakeFlag(True)  # type: ignore[assignment]

    def __init__(
        self, stream_id: int | None, wake: Callable[[], None] = lambda: None, *, readable: bool = True
    ) -> None:
        self.wake = wake
        super().__init__(stream_id=stream_id, readable=readable)
        self.buffer: dict[int, bytes] = {}  # the pieces by offset; they do not overlap
        self._starts: list[int] = []  # their offsets, sorted
        self._held = 0  # bytes in them

    @property
    def held(self) -> list[tuple[int, bytes]]:
        """The pieces after a gap and their offsets, sorted."""
        return [(start, self.buffer[start]) for start in self._starts]

    def handle_frame(self, frame: Any) -> StreamDataReceived | None:
        """Add a frame. Return the data that can be delivered now, if any.

        Raises FinalSizeError or QuicConnectionError.
        """
        self._check_size(frame.offset + len(frame.data), fin=frame.fin)
        if self.is_finished:
            return None
        data = self.take(frame.offset, frame.data)
        end = self.buffer_start == self.final_size
        if end:
            self.is_finished = True
        if data or end:
            return StreamDataReceived(data=data, end_stream=end, stream_id=self.stream_id or 0)
        return None

    def take(self, start: int, data: bytes) -> bytes:
        """Add the bytes from `start` on. Return those that can be delivered. Raises QuicConnectionError."""
        stop = start + len(data)
        self.highest_offset = max(self.highest_offset, stop)
        if start > self.buffer_start:
            self._keep(start, data)
            return b""
        if stop <= self.buffer_start:
            return b""
        data = data[self.buffer_start - start :]
        self.buffer_start = stop
        return data + self._following() if self._starts else data

    def bears(self, start: int, stop: int) -> bool:
        """Whether `take` cannot fail for the bytes from `start` to `stop`: they add at most one piece."""
        index = bisect_right(self._starts, start)
        alone = index == len(self._starts) or self._starts[index] >= stop
        return alone and len(self._starts) < PIECES + self._held // PIECE

    def handle_reset(self, *, final_size: int, error_code: int = QuicErrorCode.NO_ERROR) -> Any:
        """Handle a reset as aioquic does, and free the pieces."""
        event = super().handle_reset(final_size=final_size, error_code=error_code)
        self._forget(len(self._starts))
        return event

    def _check_size(self, stop: int, *, fin: bool) -> None:
        """Check the end of a frame, `stop`, against the stream's final size (RFC 9000 section 4.5)."""
        if self.final_size is not None and (stop > self.final_size or (fin and stop != self.final_size)):
            raise FinalSizeError("the data does not match the stream's final size")
        if fin:
            if stop < self.highest_offset:
                raise FinalSizeError("data was received beyond the final size")
            self.final_size = stop

    def _following(self) -> bytes:
        """Remove and return the pieces that now follow without a gap."""
        parts, count = [], 0
        for start in self._starts:
            if start > self.buffer_start:
                break
            piece = self.buffer[start][self.buffer_start - start :]
            self.buffer_start += len(piece)
            parts.append(piece)
            count += 1
        self._forget(count)
        return b"".join(parts)

    def _forget(self, count: int) -> None:
        """Drop the first pieces."""
        for start in self._starts[:count]:
            self._held -= len(self.buffer.pop(start))
        del self._starts[:count]

    def _keep(self, start: int, data: bytes) -> None:
        """Keep the part of `data` that is new."""
        starts, buffer = self._starts, self.buffer
        stop = start + len(data)
        index = bisect_right(starts, start)
        at = start
        if index:
            at = max(at, starts[index - 1] + len(buffer[starts[index - 1]]))
        while at < stop:
            after = starts[index] if index < len(starts) else stop
            if at < after:
                index = self._insert(index, at, data[at - start : min(after, stop) - start])
            if after >= stop:
                break
            at = after + len(buffer[after])
            index += 1
        if len(starts) > PIECES + self._held // PIECE:
            raise QuicConnectionError(
                error_code=QuicErrorCode.INTERNAL_ERROR,
                frame_type=QuicFrameType.STREAM_BASE,
                reason_phrase="too many gaps in a stream",
            )

    def _insert(self, index: int, at: int, piece: bytes) -> int:
        """Insert a piece before the one at `index`. Return the new index of that one."""
        self._held += len(piece)
        if index:
            before = self._starts[index - 1]
            known = self.buffer[before]
            if before + len(known) == at and len(known) + len(piece) <= SMALL:
                self.buffer[before] = known + piece
                return index
        self._starts.insert(index, at)
        self.buffer[at] = piece
        return index + 1
