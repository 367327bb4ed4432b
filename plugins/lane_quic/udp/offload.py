"""Many packets in one system call, with Linux's UDP_SEGMENT (GSO) and UDP_GRO.

A system call and the kernel's network stack cost as much CPU time as all of lane's own work for a packet. So
packets that are sent together to one peer are passed to the kernel as one buffer with a segment size. Packets
that arrive together are received as one buffer. On other systems, or if the kernel refuses, each packet has
its own call.
"""

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Any

MOST_SEGMENTS = 64
"""The most packets that the kernel accepts in one call (UDP_MAX_SEGMENTS)."""
MOST_BYTES = 65000
"""The most bytes in one call: those of an IP packet, without its headers."""
REFUSALS = (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
"""Errors of a kernel without UDP_SEGMENT, or of an interface without checksum offload."""
ROOM = socket.CMSG_SPACE(4) if hasattr(socket, "CMSG_SPACE") else 0
"""Bytes of ancillary data that hold the segment size of received packets. Without them the size is lost."""

_UDP, _SEGMENT, _GRO = 17, 103, 104
_LINUX = hasattr(socket, "SO_DOMAIN")


class Train:
    """Datagrams of `size` bytes in one buffer, for one call of the kernel. The last may be shorter."""

    __slots__ = ("data", "size")

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size

    def __len__(self) -> int:
        """Bytes of all datagrams."""
        return len(self.data)

    @property
    def count(self) -> int:
        """Number of datagrams."""
        return -(-len(self.data) // self.size)

    def apart(self) -> list[bytes]:
        """Each datagram."""
        return [self.data[at : at + self.size] for at in range(0, len(self.data), self.size)]


Datagrams = Sequence[tuple[bytes | Train, Any]]


def can_segment(sock: socket.socket) -> bool:
    """Whether the kernel knows UDP_SEGMENT. Whether it works is only known once it is used."""
    if not _LINUX:
        return False
    try:
        sock.getsockopt(_UDP, _SEGMENT)
    except OSError:
        return False
    return True


def want_gro(sock: socket.socket) -> bool:
    """Ask the kernel to deliver packets that arrive together as one buffer. Return whether it will."""
    if not _LINUX:
        return False
    try:
        sock.setsockopt(_UDP, _GRO, 1)
    except OSError:
        return False
    return True


def apart(datagrams: Datagrams) -> list[tuple[bytes, Any]]:
    """The datagrams, with those of trains one by one."""
    found: list[tuple[bytes, Any]] = []
    for data, path in datagrams:
        if isinstance(data, Train):
            found += [(each, path) for each in data.apart()]
        else:
            found.append((data, path))
    return found


def together(datagrams: Datagrams, start: int) -> int:
    """The number of `datagrams` from `start` on that can be sent in one call. A train is sent alone.

    They have one path and one size. The last one may be shorter.
    """
    first, path = datagrams[start]
    if isinstance(first, Train):
        return 1
    size = total = len(first)
    most = min(len(datagrams) - start, MOST_SEGMENTS)
    for count in range(1, most):
        data, other = datagrams[start + count]
        total += len(data)
        if (
            isinstance(data, Train)
            or len(data) > size
            or total > MOST_BYTES
            or (other is not path and other != path)
        ):
            return count
        if len(data) < size:
            return count + 1
    return most


def segments(size: int) -> tuple[int, int, bytes]:
    """The ancillary data that tells the kernel to split the buffer into datagrams of `size` bytes."""
    return _UDP, _SEGMENT, struct.pack("=H", size)


def cut(data: bytes, ancillary: Sequence[tuple[int, int, bytes]]) -> list[bytes]:
    """Split a received buffer into its datagrams."""
    size = 0
    for level, kind, value in ancillary:
        if (level, kind) == (_UDP, _GRO):
            (size,) = struct.unpack("=i", value[:4])
    if not 0 < size < len(data):
        return [data]
    return [data[at : at + size] for at in range(0, len(data), size)]
