"""The frames of a session, after REQUEST and REPLY in the protocol lane/1.

Each frame has a type (one byte), the length of its payload (three bytes) and the payload. Offsets are
absolute positions in one direction of the session, so that a session can continue over another stream. A
DATA frame is delivered in pieces as they arrive, and so is never in memory as a whole. docs/PROTOCOL.md has
the layout and test vectors.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lane.errors import ProtocolError

DATA, ACK, FIN, RESET, PING, PONG, END, STATS, RECEIVED = range(9)

_HEAD = struct.Struct("!I")  # type << 24 | length of the payload
_DATA = struct.Struct("!IQ")
_ACK = struct.Struct("!IQI")
_ACK_DATA = struct.Struct("!IQIIQ")
_U64 = struct.Struct("!IQ")
_U32 = struct.Struct("!II")
_STATS = struct.Struct("!IIQQQ")

MAX_FRAME = 131072
"""The largest frame, bytes, including its 4-byte head: eight full TLS records."""
MAX_PAYLOAD = MAX_FRAME - _DATA.size
"""The most data in one DATA frame, bytes."""
MIN_VIEW = 32768
"""Bytes from which a piece of data is a view of the fed buffer. Smaller pieces are copied."""
MAX_OFFSET = (1 << 62) - 1
MAX_WINDOW = (1 << 32) - 1
MOVE = (1 << 64) - 1
"""The value of a PING with which a server asks the client to move the session to another carrier."""
ABORTED = 1 << 31
"""A bit in the reset code of a stream: its session was aborted. The other 31 bits are the session's code."""


_ACK_HEAD = ACK << 24 | 12
_STATS_HEAD = STATS << 24 | 28


class Data(NamedTuple):
    """Bytes of the session from `offset` on. `data` may be a view of the fed buffer."""

    offset: int
    data: bytes | memoryview


class Ack(NamedTuple):
    """All bytes before `consumed` have left the peer's process. A FIN counts as one byte.

    Bytes up to `consumed + window` may be sent.
    """

    consumed: int
    window: int


@dataclass(frozen=True, slots=True)
class Fin:
    """The direction ends at the offset `final`: the number of its bytes."""

    final: int


@dataclass(frozen=True, slots=True)
class ResetFrame:
    """The session was aborted."""

    code: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Requests a Pong with the same value."""

    value: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a Ping."""

    value: int


@dataclass(frozen=True, slots=True)
class End:
    """The session is complete. This is its last frame in this direction; later bytes belong to another."""


@dataclass(frozen=True, slots=True)
class Stats:
    """A sender's measurements of its path to the other side. All values except `rtt` only grow."""

    rtt: int
    """Smoothed round-trip time, microseconds; 0 if it is unknown."""
    sent: int
    """Bytes that the carrier sent and that are known to be delivered or lost."""
    lost: int
    """Bytes of `sent` that were lost or sent again."""
    held: int
    """Microseconds in which the session had data to send and the carrier did not accept it."""


@dataclass(frozen=True, slots=True)
class Received:
    """All bytes before `offset` have arrived: continue from there. The FIN counts as one byte."""

    offset: int


Frame = Data | Ack | Fin | ResetFrame | Ping | Pong | End | Stats | Received
Message = tuple[int, int, tuple[int, int] | None, Stats | None]
"""The offset of the bytes of a DATA frame, where they begin, and what is in front: an ACK's fields, STATS."""


def reset_code(code: int) -> int:
    """The reset code of the stream of a session that was aborted with `code`."""
    return ABORTED | (code if code < ABORTED else 0)


def aborted(reset: int) -> int | None:
    """The code of an aborted session, from its stream's code `reset`. None: only the stream was reset."""
    return reset & ~ABORTED if reset & ABORTED else None


def data_head(offset: int, size: int) -> bytes:
    """The head of a DATA frame with `size` bytes (1 to MAX_PAYLOAD) from `offset` on."""
    return _DATA.pack(DATA << 24 | (8 + size), offset)


def pack_ack(consumed: int, window: int) -> bytes:
    """The bytes of an `Ack`, which most writes begin with."""
    return _ACK.pack(ACK << 24 | 12, consumed, window)


def message_head(consumed: int, window: int, offset: int, size: int) -> bytes:
    """The bytes of an `Ack`, and behind it the head of a DATA frame: see `pack_ack` and `data_head`."""
    return _ACK_DATA.pack(_ACK_HEAD, consumed, window, 8 + size, offset)


def pack(frame: Frame) -> bytes:
    """The bytes of any frame."""
    match frame:
        case Data(offset, data):
            return data_head(offset, len(data)) + bytes(data)
        case Ack(consumed, window):
            return pack_ack(consumed, window)
        case Fin(final):
            return _U64.pack(FIN << 24 | 8, final)
        case ResetFrame(code):
            return _U32.pack(RESET << 24 | 4, code)
        case Ping(value):
            return _U64.pack(PING << 24 | 8, value)
        case Pong(value):
            return _U64.pack(PONG << 24 | 8, value)
        case End():
            return _HEAD.pack(END << 24)
        case Stats(rtt, sent, lost, held):
            return _STATS.pack(STATS << 24 | 28, rtt, sent, lost, held)
        case Received(offset):
            return _U64.pack(RECEIVED << 24 | 8, offset)


class FrameReader:
    """Parses bytes into frames. It cannot be used after an END or a ProtocolError.

    `frozen` is the result of another reader's `freeze`. This reader continues from there.
    """

    def __init__(self, frozen: tuple[bytes, int, int, bytes | None] | None = None) -> None:
        # `_partial` is the start of a frame's head or of a small frame: under 32 bytes. `_left` is the number
        # of missing bytes of the current DATA frame, and `_offset` is their position.
        self.rest: bytes | None
        """The bytes fed after an END; None before an END."""
        self._partial, self._offset, self._left, self.rest = frozen or (b"", 0, 0, None)

    def freeze(self) -> tuple[bytes, int, int, bytes | None]:
        """The whole state as a plain value. Do not call it while `each` runs."""
        return self._partial, self._offset if self._left else 0, self._left, self.rest

    @property
    def between_frames(self) -> bool:
        """Whether the fed bytes end with a whole frame."""
        return not self._left and not self._partial

    def message(self, data: bytes | memoryview) -> Message | None:
        """Parse `data` if it is one whole DATA frame, maybe behind an ACK, as most short reads are.

        STATS may be between the two. None if it is anything else: then `each` parses it.
        """
        size = len(data)
        if self._left or self._partial or size <= _ACK_DATA.size:
            return None
        first, consumed, window, head, offset = _ACK_DATA.unpack_from(data)
        if first != _ACK_HEAD:
            return (_DATA.unpack_from(data)[1], 12, None, None) if first == size - 4 else None
        if head == size - 20:  # the type DATA is 0; of its payload, the first 8 bytes are the offset
            return offset, 28, (consumed, window), None
        if head == _STATS_HEAD and size > 60:
            stats = Stats(*_STATS.unpack_from(data, 16)[1:])
            head, offset = _DATA.unpack_from(data, 48)
            if head == size - 52:
                return offset, 60, (consumed, window), stats
        return None

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """The frames and pieces of DATA frames that `data` completes. Raises ProtocolError."""
        return list(self.each(data))

    def each(self, data: bytes | memoryview, turn: int = 0) -> Iterator[Frame]:
        """Like `feed`, but one by one, since there may be thousands. A caller that stops early must not go
        on.

        From frame number `turn` on, the memory of `data` may be reused. So the rest of `data` is copied then.
        """
        if self._partial:
            data = self._partial + bytes(data)
            self._partial = b""
        view = memoryview(data)
        end = len(data)
        at = 0
        while at < end:
            turn -= 1
            if turn == 0:
                data = bytes(data)
                view = memoryview(data)
            if self._left:
                size = min(self._left, end - at)
                piece: bytes | memoryview = view[at : at + size]
                if size < MIN_VIEW:
                    piece = bytes(piece)  # a small view must not keep a large buffer alive
                offset = self._offset
                self._offset += size
                self._left -= size
                at += size
                yield Data(offset, piece)
                continue
            if end - at < 4:
                break
            head = _HEAD.unpack_from(data, at)[0]
            kind, length = head >> 24, head & 0xFFFFFF
            if kind == DATA:
                if not 8 < length <= MAX_FRAME - 4:
                    raise ProtocolError(f"a DATA frame of {length} bytes")
                if end - at < _DATA.size:
                    break
                self._offset = _DATA.unpack_from(data, at)[1]
                self._left = length - 8
                if self._offset > MAX_OFFSET:
                    raise ProtocolError("an offset beyond 2**62")
                at += _DATA.size
                continue
            if kind not in _SIZES or length != _SIZES[kind]:
                raise ProtocolError(f"a frame of type {kind} and {length} bytes")
            if end - at < 4 + length:
                break
            if kind == END:
                self.rest = bytes(data[at + 4 :])
                yield End()
                return
            yield _parse(kind, data, at)
            at += 4 + length
        self._partial = bytes(data[at:])


_SIZES = {ACK: 12, FIN: 8, RESET: 4, PING: 8, PONG: 8, END: 0, STATS: 28, RECEIVED: 8}
_WITH_U64: dict[int, type[Fin | Ping | Pong | Received]] = {
    FIN: Fin,
    PING: Ping,
    PONG: Pong,
    RECEIVED: Received,
}


def _parse(kind: int, data: bytes | memoryview, at: int) -> Frame:
    """Parse the fixed-size frame at `at`."""
    if kind == ACK:
        _, consumed, window = _ACK.unpack_from(data, at)
        return Ack(consumed, window)
    if kind == RESET:
        return ResetFrame(_U32.unpack_from(data, at)[1])
    if kind == STATS:
        return Stats(*_STATS.unpack_from(data, at)[1:])
    return _WITH_U64[kind](_U64.unpack_from(data, at)[1])
