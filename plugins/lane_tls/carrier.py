"""A TLS connection as a carrier: one stream, and what the kernel knows of the link."""

import socket
import struct
from time import monotonic

from lane.errors import Closed
from lane.stream import LinkStats
from lane_tls.stream import TLSStream


class TLSCarrier:
    """A carrier of one stream, which the side that dialled opens and the other accepts."""

    datagrams = None
    one_stream = True

    def __init__(self, stream: TLSStream, binding: bytes, peer: str, dialled: bool) -> None:
        self.binding = binding
        self.peer = peer
        self._stream = stream
        self._dialled = dialled
        self._idle = True  # the stream was not handed out

    @property
    def capacity(self) -> int:
        """1 until the stream is opened; 0 for the side that accepts."""
        return int(self._dialled and self._idle and not self.closed)

    @property
    def closed(self) -> bool:
        """Whether the connection is known to be lost."""
        return self._stream.lost()

    def open(self) -> TLSStream:
        """The stream. Raises Closed the second time, and on a lost connection."""
        if not self.capacity:
            raise Closed("a TLS connection carries one stream")
        self._idle = False
        return self._stream

    def accept(self) -> TLSStream:
        """The stream, once, on the side that did not dial; then blocks. Raises Closed with the carrier."""
        if not self._dialled and self._idle and not self._stream.broken:
            self._idle = False
            return self._stream
        self._stream.dead.wait()
        raise Closed("the connection is closed")

    def stats(self) -> LinkStats:
        """What the kernel measured (TCP_INFO); nothing where there is none."""
        try:
            info = self._stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        except (OSError, AttributeError):
            return LinkStats()
        return link_stats(info)

    def close(self, grace: float = 0) -> None:
        """Close the connection. What a finished stream sent is delivered by the kernel, `grace` or not.

        A stream that is not finished is reset: the peer must not take it for whole.
        """
        if self._stream.finished:
            self._stream.close()
        else:
            self._stream.reset()


def link_stats(info: bytes) -> LinkStats:
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
