"""The receiving half of a stream: aioquic's, whose memory and work are bounded by what came, not by where.

aioquic keeps what comes ahead of a gap in one buffer that begins at the gap, so that a single byte far
ahead costs all of the window; and it walks its list of ranges for each frame, so that single bytes with gaps
between them cost seconds. Here pieces are kept as they came, found by bisection, and many small ones end the
connection: an honest peer has a gap where a packet was lost, and packets are not that small.
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
"""Pieces with gaps between them that a stream may have, whatever their size,"""
PIECE = 256
"""and one more for so many bytes that it holds."""
SMALL = 1024
"""Pieces up to this many bytes are joined with what follows: each costs more than what is in it."""


class Assembler(StreamReceiver):
    """The bytes of one stream that came ahead of others."""

    stop_pending, is_finished = WakeFlag(True), WakeFlag(True)  # type: ignore[assignment]

    def __init__(
        self, stream_id: int | None, wake: Callable[[], None] = lambda: None, *, readable: bool = True
    ) -> None:
        self.wake = wake
        super().__init__(stream_id=stream_id, readable=readable)
        self.buffer: dict[int, bytes] = {}  # by offset; they do not overlap
        self._starts: list[int] = []  # of those, in order
        self._held = 0

    @property
    def held(self) -> list[tuple[int, bytes]]:
        """The pieces that wait, and their offsets, in order."""
        return [(start, self.buffer[start]) for start in self._starts]

    def handle_frame(self, frame: Any) -> StreamDataReceived | None:
        """Take a frame: what can be handed out now. Raises FinalSizeError or QuicConnectionError."""
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
        """Take the bytes from `start` on: what can be handed out now. Raises QuicConnectionError."""
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
        """Whether `take` of the bytes from `start` to `stop` can't fail: they are one more piece at most."""
        index = bisect_right(self._starts, start)
        alone = index == len(self._starts) or self._starts[index] >= stop
        return alone and len(self._starts) < PIECES + self._held // PIECE

    def handle_reset(self, *, final_size: int, error_code: int = QuicErrorCode.NO_ERROR) -> Any:
        """As aioquic does; and what waits is of no more use."""
        event = super().handle_reset(final_size=final_size, error_code=error_code)
        self._forget(len(self._starts))
        return event

    def _check_size(self, stop: int, *, fin: bool) -> None:
        """Whether data up to `stop` agree with the stream's final size (RFC 9000 section 4.5)."""
        if self.final_size is not None and (stop > self.final_size or (fin and stop != self.final_size)):
            raise FinalSizeError("the stream has another final size")
        if fin:
            if stop < self.highest_offset:
                raise FinalSizeError("data came beyond the final size")
            self.final_size = stop

    def _following(self) -> bytes:
        """Take out the pieces that need wait no more."""
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
        """Keep what of `data` is not there yet."""
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
        """Put a piece into a gap, before the one at `index`: the index of that afterwards."""
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
