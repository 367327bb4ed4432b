"""Plain TCP as a transport: the smallest one that works between processes, and an example for authors.

A carrier is one connection with one stream. There are no certificates, and every binding is 32 zero bytes.
So it is only for tests. If a process dies, its connections seem to end cleanly: TCP cannot tell the
difference.
"""

from typing import Any

from gevent.event import Event

from lane.address import normal_host
from lane.errors import Closed, Failure
from lane.net.accept import Acceptor
from lane.net.connect import Connector
from lane.net.listen import listen
from lane.session.sockets import SocketStream
from lane.stream import Address, ClientTLS, LinkStats, ServerTLS
from lane.tcp_info import link_stats

_DIAL_DEADLINE = 10.0


class TCPTransport:
    """A transport without encryption, for tests."""

    name = "tcp"

    def __init__(self) -> None:
        self._connector = Connector()

    def dial(self, endpoint: Address, tls: ClientTLS) -> "TCPCarrier":
        """Connect. `tls` is not used."""
        return TCPCarrier(self._connector.connect(endpoint, _DIAL_DEADLINE), endpoint.host, dialled=True)

    def listen(self, endpoint: Address, tls: ServerTLS) -> "TCPListener":
        """Listen on the first address of a name. `tls` is not used."""
        first, *others = listen(endpoint, 1024)
        for sock in others:
            sock.close()
        return TCPListener(first)


class TCPListener:
    """Accepts connections."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        host, port, *_ = sock.getsockname()
        self.address = Address(host, port)
        self._acceptor = Acceptor(sock, f"connections on {self.address}")

    def accept(self) -> "TCPCarrier":
        """The next connection. Raises Closed with the listener."""
        sock, (host, *_) = self._acceptor.accept()
        return TCPCarrier(sock, normal_host(host), dialled=False)

    def close(self) -> None:
        """Stop."""
        self._sock.close()


class TCPCarrier:
    """One connection with one stream. The dialling side opens it and the other side accepts it."""

    binding = bytes(32)
    datagrams = None

    def __init__(self, sock: Any, peer: str, dialled: bool) -> None:
        self.peer = peer
        self._stream = _WatchedStream(sock)
        self._dialled = dialled
        self._idle = True  # the stream was not opened or accepted yet

    @property
    def capacity(self) -> int:
        """1 until the stream is opened; always 0 on the accepting side."""
        return int(self._dialled and self._idle and not self.closed)

    @property
    def closed(self) -> bool:
        """Whether the connection is known to be lost."""
        return self._stream.lost() if self._idle else self._stream.broken

    def open(self) -> SocketStream:
        """Return the stream. Raises Closed the second time, and on a lost connection."""
        if not self.capacity:
            raise Closed("a TCP connection carries one stream")
        self._idle = False
        return self._stream

    def accept(self) -> SocketStream:
        """Return the stream once, on the accepting side, and then block. Raises Closed with the carrier."""
        if not self._dialled and self._idle and not self._stream.broken:
            self._idle = False
            return self._stream
        self._stream.dead.wait()
        raise Closed("the connection is closed")

    def stats(self) -> LinkStats:
        """The kernel's measurements."""
        return self._stream.stats()

    def close(self, grace: float = 0) -> None:
        """Close the connection. An unfinished stream is reset, so that its data does not look complete."""
        if self._stream.finished:
            self._stream.close()
        else:
            self._stream.reset()


class _WatchedStream(SocketStream):
    """A stream that tells its carrier when it is lost or closed."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.dead = Event()

    def stats(self) -> LinkStats:
        """The measurements of the connection."""
        return link_stats(self._sock)

    def _end(self, why: Failure[Closed]) -> None:
        super()._end(why)
        self.dead.set()
