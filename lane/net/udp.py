"""A UDP socket for many peers. Sending never blocks, and receiving yields to other greenlets.

Three kinds of ports use it: those of applications, of forwards, and towards targets. Each handles a received
packet at once. So all sockets share one receive buffer, and its content is valid only until the next greenlet
switch.
"""

import errno
import socket
from typing import Any

import gevent
from gevent import socket as gsocket

from lane.errors import Closed
from lane.fair import maybe_yield
from lane.net import pktinfo

BUFFER = 1048576
"""The kernel's receive buffer, in bytes."""
BACK_OFF = 0.1
"""Seconds to wait after a failed receive. An immediate retry would only burn CPU."""

Buffer = bytes | bytearray | memoryview

_arriving = bytearray(65536)  # no other greenlet runs between a receive and the packet's use


class UdpSocket:
    """Takes over `sock`, which is bound.

    Peer addresses have the form that the kernel uses. `answers`: an address from `recv` also makes the reply
    leave from the local address that the packet was sent to. Such an address is good only for a reply.
    """

    def __init__(self, sock: socket.socket, *, answers: bool = False) -> None:
        self._picks = answers and pktinfo.want(sock)  # whether it picks the source address of replies
        self._sock = gsocket.socket(sock.family, sock.type, fileno=sock.detach())
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
        self._sock.settimeout(0)  # no switch to other greenlets before it is restored
        try:
            if self._picks:
                self._sock.sendmsg((packet,), where[1], 0, where[0])
            else:
                self._sock.sendto(packet, where)
        except OSError:
            return False
        finally:
            self._sock.settimeout(None)
        return True

    def recv(self) -> tuple[memoryview, Any]:
        """Block for the next packet; return its payload and the peer's address.

        The payload is valid only until the next greenlet switch. Raises Closed.
        """
        maybe_yield()  # under load, the calls below need not block
        while not self._closed:
            try:
                size, where = self._take()
            except OSError as error:
                if error.errno in (errno.EBADF, errno.ENOTSOCK):
                    break  # closed, by `close` or by mistake: a retry can't help
                gevent.sleep(BACK_OFF)
            else:
                return memoryview(_arriving)[:size], where
        raise Closed("the socket is closed")

    def _take(self) -> tuple[int, Any]:
        if not self._picks:
            size, address = self._sock.recvfrom_into(_arriving)
            return size, address
        size, ancillary, _, address = self._sock.recvmsg_into((_arriving,), pktinfo.ROOM)
        return size, (address, pktinfo.source(ancillary))

    def close(self) -> None:
        """Close the socket and wake a blocked `recv`. Idempotent."""
        self._closed = True
        self._sock.close()
