"""A TLS connection as a carrier: one stream, and what the kernel knows of the link."""

from collections.abc import Callable

from lane.errors import Closed
from lane.stream import LinkStats
from lane.tcp_info import link_stats
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
        self._stream.dead.wait()  # no limit: there is nothing more to come but the end
        raise Closed("the connection is closed")

    def when_heard(self, callback: Callable[[], None]) -> None:
        """See `lane.stream.Rings`."""
        self._stream.when_heard(callback)

    def stats(self) -> LinkStats:
        """What the kernel measured (TCP_INFO); nothing where there is none."""
        return link_stats(self._stream.sock)

    def close(self, grace: float = 0) -> None:
        """Close the connection. What a finished stream sent is delivered by the kernel, `grace` or not.

        A stream that is not finished is reset: the peer must not take it for whole.
        """
        if self._stream.finished:
            self._stream.close()
        else:
            self._stream.reset()
