"""Small things that packets are made of: integers, lengths, kinds of frames."""

WIDTHS = {1: 0, 2: 0x4000, 4: 0x8000_0000, 8: 0xC000_0000_0000_0000}
"""Bytes that an integer may take, and what marks it as one of that width (RFC 9000 section 16)."""
CHEAP = frozenset((*range(0x08, 0x10), 0x30, 0x31))
"""Frames that carry data (STREAM and DATAGRAM). Each costs 1 of what engine/peer_limits.py allows."""
COSTLY = 4
"""What a frame of any other type costs there."""


def varint(value: int) -> bytes:
    """RFC 9000 section 16."""
    if value < 0x40:
        return bytes((value,))
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")


def length_of(size: int) -> bytes:
    """The length of a frame, in two bytes."""
    return (size | 0x4000).to_bytes(2, "big")


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer, and where it ends (RFC 9000 section 16). Raises IndexError where there is none."""
    first = data[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | data[at + 1], at + 2
    size = 4 if first < 0xC0 else 8
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big") & (1 << size * 8 - 2) - 1, at + size
