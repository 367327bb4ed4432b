"""What the kernel knows of a TCP connection, as the figures of a carrier: for every transport over TCP."""

import socket
import struct
from time import monotonic
from typing import Any

from lane.stream import LinkStats

_MOST = 256
"""Bytes of the structure that are asked for; kernels have fewer yet."""


def link_stats(sock: Any) -> LinkStats:
    """The figures of a connected TCP socket (TCP_INFO of Linux); none of a closed one, or on other systems.

    A system call of a microsecond or so: cheap enough for `Carrier.stats`.
    """
    try:
        return parse(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MOST))
    except (OSError, AttributeError):
        return LinkStats()


def parse(info: bytes) -> LinkStats:
    """Read Linux's `struct tcp_info` (linux/tcp.h), which grows at its end: older kernels give less of it."""

    def field(offset: int, form: str = "I") -> int:
        if len(info) < offset + struct.calcsize(form):
            return 0
        value: int = struct.unpack_from("=" + form, info, offset)[0]
        return value

    segment, unacked, rtt, retransmitted = field(16), field(24), field(68), field(100)
    sent = field(200, "Q") or segment * (field(156) or field(136))  # segments with data, or all of them
    lost = min(sent, field(208, "Q") or segment * retransmitted)
    return LinkStats(
        rtt=rtt / 1e6 if rtt else None,
        loss=lost / sent if sent else None,
        sent=sent,
        lost=lost,
        delivered=field(120, "Q"),
        in_flight=unacked * segment,
        rate=field(160, "Q") or None,
        measured_at=monotonic(),
    )
