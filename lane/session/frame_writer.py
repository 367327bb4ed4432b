"""The next bytes of a session for its stream.

Data goes out in order, with pending control frames in front of it, so that an ACK needs no write of its own.
Sent bytes are retained until the peer has consumed them, so a lost stream loses no data: the peer names the
offset that it needs, and the next stream continues from there.
"""

from typing import Any

from lane.errors import ProtocolError
from lane.proto.frames import (
    MOVE,
    End,
    Fin,
    Ping,
    Pong,
    Received,
    ResetFrame,
    Stats,
    data_head,
    message_head,
    pack,
    pack_ack,
)
from lane.session.byte_queue import Buffer
from lane.session.liveness import Liveness
from lane.session.receive_window import ReceiveWindow
from lane.session.send_buffer import SendBuffer
from lane.stream import LinkStats

PIECE = 130560
"""The most bytes of data in one frame.

With or without the overhead of TLS they fill two segments on loopback (MTU 65536). More bytes would go into a
tiny third segment, which wakes the receiver once more.
"""

AHEAD = 14600
"""Bytes that are sent again before the peer's first ACK on a stream. The peer has most of those that were on
their way when the last stream was left, and its ACK says so. A new connection is slow at first anyway."""

_MOST = (1 << 32) - 1, (1 << 64) - 1, (1 << 64) - 1
"""The limits of the fields of STATS."""

Chunk = tuple[bytes, Buffer]
"""Frames to write, and data to write behind them, which may be empty."""


# The frames that may be due, as bits: most of the time none is, and one look tells.
ACK_DUE, PONG_DUE, PING_DUE, STATS_DUE, RECEIVED_DUE, PREFACE_DUE, END_DUE, RESET_DUE, MOVE_DUE = (
    1 << bit for bit in range(9)
)


class FrameWriter:
    """The writer of one session. `due` has a bit for each control frame to send with the next chunk."""

    __slots__ = (
        "_cursor", "_fin_sent", "_liveness", "_preface", "ahead", "buffer", "done", "due", "pong",
        "reset_code", "send_blocked_seconds", "window",
    )  # fmt: skip

    _FROZEN = (
        "due", "pong", "reset_code", "done", "send_blocked_seconds", "_preface", "_cursor", "_fin_sent",
    )  # fmt: skip

    def __init__(self, window: ReceiveWindow, buffer: SendBuffer, liveness: Liveness) -> None:
        self.due = 0
        self.pong = 0
        """The value of the PONG that is due."""
        self.reset_code = 0
        """The code of the RESET that is due."""
        self.done = True
        """Whether there is no stream, or its last frame was sent."""
        self.send_blocked_seconds = 0.0
        """Seconds for which writes to streams blocked."""
        self.window = window
        self.buffer = buffer
        self._liveness = liveness
        self._preface = b""  # bytes in front of all frames
        self._cursor: int | None = 0  # the next offset for this stream; None until RECEIVED came
        self._fin_sent = False
        self.ahead: int | None = None
        """Bytes of data that may go on a further stream before the first ACK; None after it."""

    def freeze(self) -> dict[str, Any]:
        """The state as a plain value."""
        return {name: getattr(self, name) for name in self._FROZEN}

    def thaw(self, frozen: dict[str, Any]) -> None:
        """Continue from another writer's state."""
        for name in self._FROZEN:
            setattr(self, name, frozen[name])

    def attach(self, preface: bytes, *, resumed: bool, announce: bool) -> None:
        """Begin another stream, with `preface` in front of all frames.

        `resumed`: data waits until the peer's RECEIVED. `announce`: the peer needs our RECEIVED as well.
        """
        self._preface = preface
        self._cursor = None if resumed else 0
        self.ahead = AHEAD if resumed else None
        self._fin_sent = self.done = False
        self.due &= RESET_DUE
        if preface:
            self.due |= PREFACE_DUE
        if resumed:
            self.due |= ACK_DUE  # the last ACK may be lost
        if announce:
            self.due |= RECEIVED_DUE

    def resume(self, arrived: int) -> None:
        """The peer has all bytes before `arrived`. Raises ProtocolError; also on a second call."""
        if self._cursor is not None:
            raise ProtocolError("RECEIVED where it was not due")
        self.buffer.resume(arrived)
        self._cursor = min(arrived, self.buffer.sent)
        self._fin_sent = arrived > self.buffer.sent

    def heard(self) -> bool:
        """The peer has said what it has, on this stream. Returns whether data may have waited for that."""
        waited, self.ahead = self.ahead is not None, None
        return waited

    @property
    def caught_up(self) -> bool:
        """Whether the stream has all data so far, and would have more at once."""
        return not self.done and self._cursor == self.buffer.sent and self.ahead is None

    @property
    def control_due(self) -> bool:
        """Whether a control frame is due that should not wait for data.

        STATS does while bytes are in flight: more follow, or there is no more news. Datagrams carry no STATS.
        """
        due = self.due & ~STATS_DUE if self.buffer.retained else self.due
        return bool(due) or self.window.ack_due

    def next(self, now: float, *, control_only: bool = False) -> Chunk | None:
        """Returns the next chunk, which counts as written; None if there is nothing to write at present."""
        if self.done:
            return None
        if self.due & RESET_DUE:
            return self._last_words(pack(ResetFrame(self.reset_code)))
        buffer, cursor, due = self.buffer, self._cursor, self.due
        if due & PONG_DUE:
            due = self._without_early_pong()
        head, data = b"", b""  # type: bytes, Buffer
        if cursor is not None and not (control_only or buffer.released):
            cursor = max(cursor, min(buffer.acked, buffer.sent))
            if cursor < buffer.sent:
                if size := PIECE if self.ahead is None else min(self.ahead, PIECE):
                    data = buffer.again(cursor, size)
                    head = data_head(cursor, len(data))
                    cursor += len(data)
                    if self.ahead is not None:
                        self.ahead -= len(data)
            elif buffer.final is not None and not self._fin_sent:
                self._fin_sent = True
                head = pack(Fin(buffer.final))
            self._cursor = cursor
        if due & END_DUE and not head:
            buffer.end()
            return self._last_words(self._control(now, due) + pack(End()))
        if head or due or self.window.ack_due:
            return self._control(now, due) + head, data
        return None

    def next_message(self, data: Buffer, now: float) -> bytes | None:
        """Send `data`, and return the frames in front of them. They count as written.

        This is the short way of what `send` and `next` do together. None if it is not open: a control frame
        is due (not an ACK or STATS), or bytes are to be sent before, or there may be no credit for all of
        `data`.
        """
        buffer, window, offset, due = self.buffer, self.window, self._cursor, self.due
        if due & ~STATS_DUE or self.done or offset != buffer.sent or self.ahead is not None:
            return None
        if not buffer.send_at_once(data):
            return None
        self._cursor = buffer.sent
        if due or not window.unacknowledged:
            return self._control(now, due) + data_head(offset, len(data))
        return message_head(*window.acknowledge(now), offset, len(data))

    def _last_words(self, frames: bytes) -> Chunk:
        out, self._preface = self._preface + frames, b""
        self.done = True
        return out, b""

    def _without_early_pong(self) -> int:
        """The frames that may go out now, of which PONG is due.

        A PONG promises that later data keep to the newest ACK. Bytes that an older one allowed, and that are
        to be sent again, go before it.
        """
        buffer, due = self.buffer, self.due
        if buffer.sent > buffer.limit and not buffer.released:
            behind = self._cursor is None or self._cursor < buffer.sent
            return due & ~PONG_DUE if behind else due
        return due

    def _control(self, now: float, due: int) -> bytes:
        """The frames in `due`, and an ACK if it tells the peer anything new."""
        self.due &= ~due | END_DUE
        ack = pack_ack(*self.window.acknowledge(now)) if due & ACK_DUE or self.window.unacknowledged else b""
        if not due:
            return ack
        out, self._preface = self._preface, b""
        if due & RECEIVED_DUE:
            out += pack(Received(self.window.arrived))
        out += ack
        if due & PONG_DUE:
            out += pack(Pong(self.pong))
        if due & PING_DUE:
            out += pack(Ping(self._liveness.ask(now)))
        if due & MOVE_DUE:
            out += pack(Ping(MOVE))
        if due & STATS_DUE:
            out += pack(_stats(self._liveness.link, self.send_blocked_seconds))
        return out


def _stats(link: LinkStats, blocked: float) -> Stats:
    """The STATS of a carrier. Figures that a foreign transport got wrong become 0."""
    try:
        figures = int((link.rtt or 0) * 1e6), int(link.sent), int(link.lost)
    except (TypeError, ValueError, OverflowError):
        figures = 0, 0, 0
    rtt, sent, lost = (min(max(figure, 0), most) for figure, most in zip(figures, _MOST, strict=True))
    return Stats(rtt, sent, lost, int(blocked * 1e6))
