"""A UDP socket for many peers. Sending never blocks, and receiving yields to other greenlets.

Three kinds of ports use it: those of applications, of forwards, and towards targets. Each handles a received
packet at once. So all sockets share one receive buffer, and its content is valid only until the next greenlet
switch.
"""

import errno
import socket
from time import monotonic
from typing import Any

import gevent

from lane.errors import Closed
from lane.fair import maybe_yield
from lane.net import pktinfo

BUFFER = 1048576
"""The kernel's receive buffer, in bytes."""
BACK_OFF = 0.1
"""Seconds to wait after a failed receive. An immediate retry would only burn CPU."""
BRISK = 0.0002
"""Seconds. After a shorter wait for a packet there are probably more: the next receive does not wait."""

Buffer = bytes | bytearray | memoryview

_arriving = bytearray(65536)  # no other greenlet runs between a receive and the packet's use


class UdpSocket:
    """Takes over `sock`, which is bound.

    Peer addresses have the form that the kernel uses. `answers`: an address from `recv` also makes the reply
    leave from the local address that the packet was sent to. Such an address is good only for a reply.
    """

    def __init__(self, sock: socket.socket, *, answers: bool = False) -> None:
        self._picks = answers and pktinfo.want(sock)  # whether it picks the source address of replies
        # This class waits by itself, so a plain socket is enough, and its calls are faster.
        self._sock = socket.socket(sock.family, sock.type, fileno=sock.detach())
        self._sock.setblocking(False)
        self._hub: Any = gevent.get_hub()
        self._readable = self._hub.loop.io(self._sock.fileno(), 1)
        self._lull = False  # the next packet has probably not arrived yet
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.host: str
        self.port: int
        self.host, self.port = self._sock.getsockname()[:2]
        self._closed = False

    @classmethod
    def open(cls, family: int, host: str = "") -> "UdpSocket":
        """Open a socket on `host` and any free port. An empty `host` means every address of the family.

        Raises OSError.
        """
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, 0))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def send(self, packet: Buffer, where: Any) -> bool:
        """Send one packet. False if the kernel does not take it: too large, no room, or no route."""
        if self._closed:
            return False
        try:
            if self._picks:
                self._sock.sendmsg((packet,), where[1], 0, where[0])
            else:
                self._sock.sendto(packet, where)
        except OSError:
            return False
        return True

    def recv(self) -> tuple[memoryview, Any]:
        """Block for the next packet; return its payload and the peer's address.

        The payload is valid only until the next greenlet switch. Raises Closed.
        """
        while not self._closed:
            if self._lull:
                self._wait()
            else:
                maybe_yield()  # under load, the calls below need not block
            try:
                size, where = self._take()
            except BlockingIOError:
                self._lull = True
            except OSError as error:
                if error.errno in (errno.EBADF, errno.ENOTSOCK):
                    break  # closed, by `close` or by mistake: a retry can't help
                gevent.sleep(BACK_OFF)
            else:
                return memoryview(_arriving)[:size], where
        raise Closed("the socket is closed")

    def _wait(self) -> None:
        """Let other greenlets run until there is a packet."""
        begun = monotonic()
        self._hub.wait(self._readable)  # no limit: `close` ends it
        self._lull = monotonic() - begun > BRISK

    def _take(self) -> tuple[int, Any]:
        if not self._picks:
            size, address = self._sock.recvfrom_into(_arriving)
            return size, address
        size, ancillary, _, address = self._sock.recvmsg_into((_arriving,), pktinfo.ROOM)
        return size, (address, pktinfo.source(ancillary))

    def detach(self) -> int:
        """Give the descriptor away. Nobody may be in `recv`, and no call may follow."""
        self._closed = True
        self._readable.close()
        return self._sock.detach()

    def close(self) -> None:
        """Close the socket and wake a blocked `recv`. Idempotent."""
        if not self._closed:
            self._closed = True
            # The descriptor closes when nobody waits on it: its number may be reused at once.
            why = Closed("the socket is closed")
            self._hub.cancel_waits_close_and_then((self._readable,), why, self._sock.close)
