"""A TLS connection as a carrier: one stream, and the kernel's measurements of the link."""

from collections.abc import Callable

from lane.errors import Closed
from lane.stream import LinkStats
from lane.tcp_info import link_stats
from lane_tls.fair_rates import LEAST_SHARE as LEAST
from lane_tls.fair_rates import UNLIMITED, apply
from lane_tls.stream import TLSStream


class TLSCarrier:
    """A carrier with one stream. The dialling side opens it and the other side accepts it."""

    datagrams = None
    one_stream = True

    def __init__(self, stream: TLSStream, binding: bytes, peer: str, dialled: bool) -> None:
        self.binding = binding
        self.peer = peer
        self._stream = stream
        self._dialled = dialled
        self._idle = True  # the stream was not opened or accepted yet

    @property
    def capacity(self) -> int:
        """1 until the stream is opened; always 0 on the accepting side."""
        return int(self._dialled and self._idle and not self.closed)

    @property
    def closed(self) -> bool:
        """Whether the connection is known to be lost."""
        return self._stream.lost()

    def open(self) -> TLSStream:
        """Return the stream. Raises Closed the second time, and on a connection that is known to be lost."""
        if not self._dialled or not self._idle or self._stream.dead.is_set():
            raise Closed("a TLS connection carries one stream")
        self._idle = False
        return self._stream

    def accept(self) -> TLSStream:
        """Return the stream once, on the accepting side, and then block. Raises Closed with the carrier."""
        if not self._dialled and self._idle and not self._stream.broken:
            self._idle = False
            return self._stream
        self._stream.dead.wait()  # no limit: there is no second stream, so only the end can come
        raise Closed("the connection is closed")

    def when_heard(self, callback: Callable[[], None]) -> None:
        """See `lane.stream.Rings`."""
        self._stream.when_heard(callback)

    def stats(self) -> LinkStats:
        """The kernel's measurements (TCP_INFO), if the system has them."""
        return link_stats(self._stream.sock)

    @property
    def has_more(self) -> bool:
        """See `lane.stream.Paces`."""
        return self._stream.has_more

    def belong(self, user: str) -> None:
        """See `lane.stream.Paces`."""
        self._stream.user = user

    def pace(self, rate: float | None) -> None:
        """See `lane.stream.Paces`. The kernel does it, on Linux."""
        self._stream.share = UNLIMITED if rate is None else int(min(max(rate, LEAST), UNLIMITED))
        apply(self._stream)

    def close(self, grace: float = 0) -> None:
        """Close the connection. The kernel delivers the data of a finished stream, whatever `grace` is.

        An unfinished stream is reset, so that the peer does not take its data for complete.
        """
        if self._stream.finished:
            self._stream.close()
        else:
            self._stream.reset()
