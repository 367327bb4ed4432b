"""The sending half of a stream: aioquic's, extended so that the same bytes may be in flight twice.

aioquic expects each frame to be acknowledged once or lost once. Here a frame that was declared lost may still
arrive, and the end of a short answer is sent twice on lossy paths (tail_repeat.py). So one packet with some
bytes may be acknowledged and another one with the same bytes lost, in any order.
"""

from collections.abc import Callable
from typing import Any

from aioquic.buffer import size_uint_var
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.rangeset import RangeSet

from lane_quic.engine.wake_flag import WakeFlag
from lane_quic.internals.parts import StreamSender, ranges_of

SHORT = 16 * 1024
"""Bytes up to which what is written at once is short: it goes before the others, and hardly delays them."""


class Sender(StreamSender):
    """The bytes of one stream that were written and not acknowledged yet."""

    buffer_is_empty = WakeFlag(False)  # type: ignore[assignment]
    reset_pending, is_finished = WakeFlag(True), WakeFlag(True)  # type: ignore[assignment]

    def __init__(self, stream_id: int, wake: Callable[[], None]) -> None:
        self.wake = wake
        super().__init__(stream_id=stream_id, writable=True)
        self._rested_at = 0  # the offset up to which all was sent when it rested last
        self._repeated = 0  # bytes before this offset are not repeated

    def write(self, data: bytes, end_stream: bool = False) -> None:
        """Write as aioquic does. If all was sent, the new bytes are all that is to be sent."""
        waiting = ranges_of(self.pending)
        if waiting or end_stream or not data or self.buffer_fin is not None:
            super().write(data, end_stream)
        elif self.reset_error_code is None:
            stop = self.buffer_stop + len(data)
            waiting.append(range(self.buffer_stop, stop))
            self.buffer += data
            self.buffer_stop = stop
            self.buffer_is_empty = False
        else:
            super().write(data)

    @property
    def unsent(self) -> int:
        """Bytes that were written and not sent yet."""
        return 0 if self.reset_error_code is not None else self.buffer_stop - self.highest_offset

    def rests(self) -> bool:
        """Whether nothing is to be sent, as far as is known here. The stream may sleep then."""
        if ranges_of(self.pending) or self.pending_eof:
            return False
        self._rest()
        return True

    def _rest(self) -> None:
        self.buffer_is_empty = True
        self._rested_at = self.highest_offset

    @property
    def is_short(self) -> bool:
        """Whether little was written since nothing was to be sent: an answer, or a message of a chat."""
        stop: int = self.buffer_stop
        return stop - self._rested_at <= SHORT

    def take(self, room: int, most: int, packets: int) -> tuple[int, int, int] | None:
        """The next offset, and the size and the number of frames from there on, up to `packets` of them.

        They are those of `get_frame`. Each fills `room` bytes, offset included, with data from the buffer.
        None of them is the first or the last frame of the stream, or ends beyond `most`, the limit of flow
        control. None if there is no such frame.
        """
        ranges = ranges_of(self.pending)
        if not ranges or not ranges[0].start:
            return None
        waiting: range = ranges[0]
        start = waiting.start
        width = size_uint_var(start)
        size = room - width
        count = min((min(waiting.stop, most) - start) // size, packets)
        if start + count * size == self.buffer_fin:
            count -= 1
        if count < 1:
            return None
        while count > 1 and size_uint_var(start + (count - 1) * size) > width:
            count -= 1
        stop = start + count * size
        if stop == waiting.stop:
            del ranges[0]
        else:
            ranges[0] = range(stop, waiting.stop)
        self.highest_offset = max(self.highest_offset, stop)
        return start, size, count

    def take_frame(self, room: int, most: int) -> tuple[int, bytearray, bool] | None:
        """The next frame, as from `get_frame`: its offset, its data, and whether it ends the stream.

        None if there is none, or no `room` for its header, or if flow control allows none up to `most`.
        """
        if room < 0:
            return None
        ranges = ranges_of(self.pending)
        if not ranges:
            if self.pending_eof and self.buffer_fin is not None:
                self.pending_eof = False
                return self.buffer_fin, bytearray(), True
            self._rest()
            return None
        waiting: range = ranges[0]
        start, stop = waiting.start, min(waiting.stop, waiting.start + room, most)
        if stop <= start:
            return None
        if stop == waiting.stop:
            del ranges[0]
        else:
            ranges[0] = range(stop, waiting.stop)
        self.highest_offset = max(self.highest_offset, stop)
        end = stop == self.buffer_fin
        if end:
            self.pending_eof = False
        return start, self.buffer[start - self.buffer_start : stop - self.buffer_start], end

    def take_message(self, most: int, limit: int) -> range | None:
        """Take all that is to be sent, as one frame with up to `most` bytes, and rest.

        None, and nothing is taken, if it is more or less than that, if it is the first or the last frame of
        the stream, or if flow control allows less: up to `limit`.
        """
        ranges = ranges_of(self.pending)
        if len(ranges) != 1:
            return None
        waiting = ranges[0]
        stop = waiting.stop
        if not waiting.start or len(waiting) > most or stop > limit or stop == self.buffer_fin:
            return None
        ranges.clear()
        self.highest_offset = max(self.highest_offset, stop)
        self._rest()
        return waiting

    @property
    def drained(self) -> bool:
        """Whether the stream is not finished, or all its data and its end were acknowledged."""
        return bool(self.is_finished) or self.buffer_fin is None

    def reset(self, error_code: int) -> None:
        """Abort, and free the data. Packets that carried it may still be in flight."""
        super().reset(error_code)
        if self.reset_error_code is not None:
            self.buffer.clear()
            self.pending = RangeSet()

    def on_data_delivery(self, delivery: Any, start: int, stop: int, fin: bool) -> None:
        """A packet with bytes `start` to `stop` was acknowledged or lost. Others may carry the same bytes."""
        acked = delivery is QuicDeliveryState.ACKED
        if acked and start == self.buffer_start and self.buffer_fin is None and not ranges_of(self.acked):
            if self.reset_error_code is None:  # the oldest bytes of an open stream, as nearly always
                if ranges_of(self.pending):
                    self.pending.subtract(start, stop)
                self.buffer_start = stop
                del self.buffer[: stop - start]
            return
        start = min(max(start, self.buffer_start), stop)
        if acked:
            if stop > start:
                self.pending.subtract(start, stop)
            if fin:
                self.pending_eof = False
            super().on_data_delivery(delivery, start, stop, fin)
        elif stop > start or (fin and not self.acked_fin):
            super().on_data_delivery(delivery, start, stop, fin and not self.acked_fin)
            self._forget_known(start, stop)

    def _forget_known(self, start: int, stop: int) -> int:
        """Remove the acknowledged bytes from `start` to `stop` from the queue. Return how many there were."""
        forgotten = 0
        for known in list(self.acked):
            begin, end = max(start, known.start), min(stop, known.stop)
            if begin < end:
                self.pending.subtract(begin, end)
                forgotten += end - begin
        return forgotten

    @property
    def has_fresh_tail(self) -> bool:
        """Whether all data was sent, and the last bytes only once."""
        return (
            self.highest_offset == self.buffer_stop > max(self._repeated, self.buffer_start)
            and not len(self.pending)
            and self.reset_error_code is None
        )

    def repeat(self, most: int) -> int:
        """Queue the unacknowledged part of the last `most` bytes again. Return how many bytes these are.

        No byte is repeated a second time.
        """
        start, stop = max(self.highest_offset - most, self.buffer_start, self._repeated), self.highest_offset
        if stop <= start or self.reset_error_code is not None:
            return 0
        self._repeated = stop
        self.pending.add(start, stop)
        known = self._forget_known(start, stop)
        self.buffer_is_empty = False
        return stop - start - known
