"""A UDP socket for packets with addresses of their own: sending never waits, and receiving is fair.

Three kinds of ports need it (those of applications, of forwards, and towards targets), each for packets that
it takes and hands on at once. So what arrives is in one buffer for all, and gone at the next switch.
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
"""Bytes that the kernel is asked to hold of what arrives."""
BACK_OFF = 0.1
"""Seconds to wait after receiving failed: trying again at once would only burn CPU."""

Buffer = bytes | bytearray | memoryview

_arriving = bytearray(65536)  # nothing else runs between the arrival of a packet and its use


class UdpSocket:
    """Takes over `sock`, which is bound.

    Where packets are from and go to is an address for the kernel. `answers`: that which comes with a packet
    has the answer leave from where the packet came to, and is good for that only.
    """

    def __init__(self, sock: socket.socket, *, answers: bool = False) -> None:
        self._picks = answers and pktinfo.want(sock)  # one of its addresses
        self._sock = gsocket.socket(sock.family, sock.type, fileno=sock.detach())
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.host: str
        self.port: int
        self.host, self.port = self._sock.getsockname()[:2]
        self._closed = False

    @classmethod
    def open(cls, family: int, host: str = "") -> "UdpSocket":
        """A socket on `host`, empty for every address of the family, and any port. Raises OSError."""
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
        """Send one packet; False where the kernel does not take it: too large, no room, no route."""
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
        """Block for the next packet: what is in it, until the next switch, and where it is from.

        Raises Closed.
        """
        maybe_yield()  # there may always be one that waits
        while not self._closed:
            try:
                size, where = self._take()
            except OSError as error:
                if error.errno in (errno.EBADF, errno.ENOTSOCK):
                    break  # closed here, or by a mistake: it stays so
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
        """Idempotent; wakes who receives."""
        self._closed = True
        self._sock.close()
