"""Encoding of integers and lengths, and the cost of frame types."""

WIDTHS = {1: 0, 2: 0x4000, 4: 0x8000_0000, 8: 0xC000_0000_0000_0000}
"""The widths of an integer, bytes, each with the prefix bits that mark it (RFC 9000 section 16)."""
CHEAP = frozenset((*range(0x08, 0x10), 0x30, 0x31))
"""The types of frames with data (STREAM and DATAGRAM). Each costs 1 of the work in engine/peer_limits.py."""
COSTLY = 4
"""The cost of any other frame there."""


def varint(value: int) -> bytes:
    """Encode an integer (RFC 9000 section 16)."""
    if value < 0x40:
        return bytes((value,))
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")


def length_of(size: int) -> bytes:
    """Encode the length of a frame, in two bytes."""
    return (size | 0x4000).to_bytes(2, "big")


def stream_frame(stream: bytes, start: int, data: bytes | bytearray, *, end: bool = False) -> bytes:
    """A STREAM frame with its length, and with an offset unless it is 0 (RFC 9000 section 19.8)."""
    kind = (0x0E if start else 0x0A) | end
    return b"".join((bytes((kind,)), stream, varint(start) if start else b"", length_of(len(data)), data))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode an integer: its value, and its end (RFC 9000 section 16). Raises IndexError if it is cut off."""
    first = data[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | data[at + 1], at + 2
    size = 4 if first < 0xC0 else 8
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big") & (1 << size * 8 - 2) - 1, at + size
