"""Many packets in one system call, where the kernel can: UDP_SEGMENT (GSO) and UDP_GRO of Linux.

A system call and the way through the kernel's stack cost as much as all that lane does for a packet. So
packets that leave together for one peer are handed over as one piece with the size of a segment, and what
comes together is taken as one. Elsewhere, and where the kernel refuses, each packet has a call of its own.
"""

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Any

MOST_SEGMENTS = 64
"""As many as the kernel takes at once (UDP_MAX_SEGMENTS)."""
MOST_BYTES = 65000
"""Of all of them: what an IP packet holds, less than its headers."""
REFUSALS = (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
"""What a kernel says that has no UDP_SEGMENT, or whose interface has no checksums to spare for it."""
ROOM = socket.CMSG_SPACE(4) if hasattr(socket, "CMSG_SPACE") else 0
"""Bytes of ancillary data that the size of received segments takes: without them it is lost."""

_UDP, _SEGMENT, _GRO = 17, 103, 104
_LINUX = hasattr(socket, "SO_DOMAIN")

Datagrams = Sequence[tuple[bytes, Any]]


def can_segment(sock: socket.socket) -> bool:
    """Whether the kernel knows UDP_SEGMENT; that it takes it is seen when it is used."""
    if not _LINUX:
        return False
    try:
        sock.getsockopt(_UDP, _SEGMENT)
    except OSError:
        return False
    return True


def want_gro(sock: socket.socket) -> bool:
    """Have the kernel hand over what came together in one piece; whether it will."""
    if not _LINUX:
        return False
    try:
        sock.setsockopt(_UDP, _GRO, 1)
    except OSError:
        return False
    return True


def together(datagrams: Datagrams, start: int) -> int:
    """How many of `datagrams`, from `start` on, may leave at once: those of one size and path.

    The last one may be shorter.
    """
    first, path = datagrams[start]
    size = total = len(first)
    most = min(len(datagrams) - start, MOST_SEGMENTS)
    for count in range(1, most):
        data, other = datagrams[start + count]
        total += len(data)
        if len(data) > size or total > MOST_BYTES or (other is not path and other != path):
            return count
        if len(data) < size:
            return count + 1
    return most


def segments(size: int) -> tuple[int, int, bytes]:
    """The ancillary data that has the kernel cut what is sent into datagrams of `size` bytes."""
    return _UDP, _SEGMENT, struct.pack("=H", size)


def cut(data: bytes, ancillary: Sequence[tuple[int, int, bytes]]) -> list[bytes]:
    """The datagrams in what was received together."""
    size = 0
    for level, kind, value in ancillary:
        if (level, kind) == (_UDP, _GRO):
            (size,) = struct.unpack("=i", value[:4])
    if not 0 < size < len(data):
        return [data]
    return [data[at : at + size] for at in range(0, len(data), size)]
