"""Which of this machine's addresses a packet was sent to, so that the reply leaves from the same address.

If a socket is bound to every address, the kernel picks the source address of a reply by its routes. A client
that sent to another address ignores such a reply (RFC 1122 section 4.1.3.5; ip(7), IP_PKTINFO; RFC 3542
section 6).
"""

import logging
import socket
import struct
from collections.abc import Iterable

log = logging.getLogger("lane")

Ancillary = tuple[tuple[int, int, bytes], ...]

ROOM = socket.CMSG_SPACE(20) if hasattr(socket, "CMSG_SPACE") else 0
"""Bytes of ancillary data that `recvmsg` must have room for."""

_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50


def want(sock: socket.socket) -> bool:
    """Ask the kernel to report destination addresses, if `sock` is bound to every address.

    Return whether it will.
    """
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
    """Ancillary data that makes a reply leave from the address the packet was sent to, by any interface."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            scoped = data[:2] == b"\xfe\x80"  # a link-local address needs its interface
            return ((level, kind, data if scoped else data[:16] + bytes(4)),)
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, local, _ = struct.unpack("=I4s4s", data[:12])
            return ((level, kind, struct.pack("=I4s4s", 0, local, bytes(4))),)
    return ()
