"""The kernel's measurements of a TCP connection (TCP_INFO), for every transport over TCP."""

import socket
import struct
from time import monotonic
from typing import Any, NamedTuple

from lane.stream import LinkStats

_MOST = 256
"""Bytes of the structure that are requested. Current kernels have fewer."""
_UNKNOWN = (1 << 32) - 1  # of min_rtt
_FIELDS = struct.Struct("=16xI4xI40xI28xI16xQ8xI16xIQ32xQQ")
"""The fields snd_mss, unacked, rtt, total_retrans, bytes_acked, segs_out, data_segs_out, delivery_rate,
bytes_sent and bytes_retrans, at offsets 16, 24, 68, 100, 120, 136, 156, 160, 200 and 208."""


class PathInfo(NamedTuple):
    """The measurements of the path of a connection, for whoever compares several connections."""

    delivered: int
    """Bytes that the peer has acknowledged."""
    rtt: float
    """Smoothed round trip, seconds."""
    shortest_rtt: float
    """The shortest round trip of late, seconds; 0 if it is unknown."""
    lost: int = 0
    """Bytes that were lost or sent again, about."""


_PATH = struct.Struct("=16xI48xI28xI16xQ20xI")
"""The fields snd_mss, rtt, total_retrans, bytes_acked and min_rtt, at offsets 16, 68, 100, 120 and 148."""


def path_info(sock: Any) -> PathInfo | None:
    """The measurements of a connected TCP socket (Linux's TCP_INFO). None for a closed one, or elsewhere."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MOST)
    except (OSError, AttributeError):
        return None
    segment, rtt, lost, delivered, shortest = _PATH.unpack_from(info.ljust(_PATH.size, b"\0"))
    least = 0.0 if shortest == _UNKNOWN else shortest / 1e6
    return PathInfo(delivered, rtt / 1e6, least, segment * lost)


def link_stats(sock: Any) -> LinkStats:
    """The measurements of a connected TCP socket (Linux's TCP_INFO). Empty for a closed one or elsewhere.

    The system call takes about a microsecond, so it is cheap enough for `Carrier.stats`.
    """
    try:
        return parse(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MOST))
    except (OSError, AttributeError):
        return LinkStats()


def parse(info: bytes) -> LinkStats:
    """Parse Linux's `struct tcp_info` (linux/tcp.h). Newer kernels add fields at its end."""
    (segment, unacked, rtt, retransmitted, delivered, segments, with_data, rate, sent, lost) = (
        _FIELDS.unpack_from(info.ljust(_FIELDS.size, b"\0"))
    )
    sent = sent or segment * (with_data or segments)
    lost = min(sent, lost or segment * retransmitted)
    return LinkStats(
        rtt / 1e6 if rtt else None,
        lost / sent if sent else None,
        sent,
        lost,
        delivered,
        unacked * segment,
        rate or None,
        None,
        monotonic(),
    )
