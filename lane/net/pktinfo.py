"""Which of this machine's addresses a packet came to, so that the answer leaves from it.

A socket on every address has the kernel pick one for what it sends, by its routes. Whoever asked another
one takes no answer from there (RFC 1122 section 4.1.3.5; ip(7), IP_PKTINFO; RFC 3542 section 6).
"""

import logging
import socket
import struct
from collections.abc import Iterable

log = logging.getLogger("lane")

Ancillary = tuple[tuple[int, int, bytes], ...]

ROOM = socket.CMSG_SPACE(20)
"""Bytes that `recvmsg` needs for it."""

_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50


def want(sock: socket.socket) -> bool:
    """Have the kernel tell, if `sock` is bound to every address and the kernel can: whether it will."""
    if sock.getsockname()[0] not in ("::", "0.0.0.0"):
        return False
    v6 = sock.family == socket.AF_INET6
    level, option = (socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO) if v6 else (socket.IPPROTO_IP, _IP_PKTINFO)
    try:
        sock.setsockopt(level, option, 1)
    except OSError:
        log.debug("the kernel refuses socket option %d at level %d", option, level)
        return False
    return True


def source(ancillary: Iterable[tuple[int, int, bytes]]) -> Ancillary:
    """Ancillary data that has an answer leave from the address that was sent to, by any interface."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            scoped = data[:2] == b"\xfe\x80"  # a link-local address needs its interface
            return ((level, kind, data if scoped else data[:16] + bytes(4)),)
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, local, _ = struct.unpack("=I4s4s", data[:12])
            return ((level, kind, struct.pack("=I4s4s", 0, local, bytes(4))),)
    return ()
