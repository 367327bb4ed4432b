"""What a session says next on the stream that carries it, as bytes.

Data go out in order. The small control frames that came up meanwhile go out in front of them, so that an ACK
costs no write of its own. What is sent is retained until the peer has consumed it, so a stream that is lost
loses nothing: the next one begins where the peer says that it is, and what was written before or meanwhile is
written again from there.
"""

from typing import Any

from lane.errors import ProtocolError
from lane.proto.frames import (
    End,
    Fin,
    Ping,
    Pong,
    Received,
    ResetFrame,
    Stats,
    data_head,
    pack,
    pack_ack,
)
from lane.session.byte_queue import Buffer
from lane.session.liveness import Liveness
from lane.session.receive_window import ReceiveWindow
from lane.session.send_buffer import SendBuffer
from lane.stream import LinkStats

PIECE = 130560
"""The most data that go into one frame, bytes.

With what TLS adds, and without it, they fill two segments of loopback (MTU 65536). What is over would go
in a tiny third one, and wake whoever gets it once more.
"""

_MOST = (1 << 32) - 1, (1 << 64) - 1, (1 << 64) - 1
"""What the fields of STATS hold."""

Chunk = tuple[bytes, Buffer]
"""Bytes to write, and data to write behind them: maybe none."""


class FrameWriter:
    """Of one session. Its attributes say which control frames are to be sent with the next chunk."""

    _FROZEN = (
        "pong", "ping", "ack", "stats", "reset", "end", "done", "send_blocked_seconds",
        "_preface", "_received", "_cursor", "_fin_sent",
    )  # fmt: skip

    def __init__(self, window: ReceiveWindow, buffer: SendBuffer, liveness: Liveness) -> None:
        self.pong: int | None = None
        """The value of a PING that is to be answered."""
        self.ping = False
        """Whether a PING is to be sent."""
        self.ack = False
        """Whether an ACK is to be sent even though it is not due."""
        self.stats = False
        """Whether STATS are to be sent."""
        self.reset: int | None = None
        """The code of a RESET that is to be sent, and nothing after it."""
        self.end = False
        """Whether END is to be sent, and nothing after it."""
        self.done = True
        """Whether there is no stream, or nothing may follow on it."""
        self.send_blocked_seconds = 0.0
        """Seconds that streams did not take at once what there was to send."""
        self.window = window
        self.buffer = buffer
        self._liveness = liveness
        self._preface = b""  # what goes before all frames
        self._received = False  # whether RECEIVED is to be sent
        self._cursor: int | None = 0  # end of what this stream got; None: the peer has not said
        self._fin_sent = False

    def freeze(self) -> dict[str, Any]:
        """The state as a plain value."""
        return {name: getattr(self, name) for name in self._FROZEN}

    def thaw(self, frozen: dict[str, Any]) -> None:
        """Go on from there."""
        for name in self._FROZEN:
            setattr(self, name, frozen[name])

    def attach(self, preface: bytes, *, resumed: bool, announce: bool) -> None:
        """Another stream begins, with `preface` before all frames.

        `resumed`: the peer says how far it came before data go on. `announce`: it must hear the same of us.
        """
        self._preface = preface
        self._received = announce
        self._cursor = None if resumed else 0
        self._fin_sent = self.done = False
        self.pong, self.ping, self.stats = None, False, False
        self.ack = resumed  # the last ACK may be lost

    def resume(self, arrived: int) -> None:
        """The peer has all before `arrived`: go on from there. Raises ProtocolError, the second time too."""
        if self._cursor is not None:
            raise ProtocolError("RECEIVED where it was not due")
        self.buffer.resume(arrived)
        self._cursor = min(arrived, self.buffer.sent)
        self._fin_sent = arrived > self.buffer.sent

    @property
    def control_due(self) -> bool:
        """Whether there is anything to say that should not wait for data."""
        return bool(
            self.ack
            or self.ping
            or self.window.ack_due
            or self.pong is not None
            or self.stats
            or self._preface
            or self._received
            or self.end
            or self.reset is not None
        )

    def next(self, now: float, *, control_only: bool = False) -> Chunk | None:
        """What to write next; None: nothing, for the present. What is given counts as written."""
        if self.done:
            return None
        if self.reset is not None:
            return self._last_words(pack(ResetFrame(self.reset)))
        buffer, cursor = self.buffer, self._cursor
        head, data = b"", b""  # type: bytes, Buffer
        if cursor is not None and not (control_only or buffer.released):
            cursor = max(cursor, min(buffer.acked, buffer.sent))
            if cursor < buffer.sent:
                data = buffer.again(cursor, PIECE)
                head = data_head(cursor, len(data))
                cursor += len(data)
            elif buffer.final is not None and not self._fin_sent:
                self._fin_sent = True
                head = pack(Fin(buffer.final))
            self._cursor = cursor
        if self.end and not head:
            buffer.end()
            return self._last_words(self._control(now) + pack(End()))
        if head or self.control_due:
            return self._control(now) + head, data
        return None

    def _last_words(self, frames: bytes) -> Chunk:
        out, self._preface = self._preface + frames, b""
        self.done = True
        return out, b""

    def _control(self, now: float) -> bytes:
        """The control frames that are to be sent now, and an ACK if it tells anything."""
        out, self._preface = self._preface, b""
        if self._received:
            self._received = False
            out += pack(Received(self.window.arrived))
        if self.ack or self.window.ack_possible:
            self.ack = False
            out += pack_ack(*self.window.acknowledge(now))
        if self.pong is not None:
            out += pack(Pong(self.pong))
            self.pong = None
        if self.ping:
            self.ping = False
            out += pack(Ping(self._liveness.ask(now)))
        if self.stats:
            self.stats = False
            out += pack(_stats(self._liveness.link, self.send_blocked_seconds))
        return out


def _stats(link: LinkStats, blocked: float) -> Stats:
    """As the peer is told. What a foreign transport may have counted wrong is 0."""
    try:
        figures = int((link.rtt or 0) * 1e6), int(link.sent), int(link.lost)
    except (TypeError, ValueError, OverflowError):
        figures = 0, 0, 0
    rtt, sent, lost = (min(max(figure, 0), most) for figure, most in zip(figures, _MOST, strict=True))
    return Stats(rtt, sent, lost, int(blocked * 1e6))
