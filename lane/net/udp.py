"""A UDP socket for many peers. Sending never blocks, and the event loop hands on what arrives.

Three kinds of ports use it: those of applications, of forwards, and towards targets. Each handles a received
packet at once and never waits, so no greenlet waits for packets: a switch would cost more than the packet.
"""

import errno
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent

from lane.fair import this_round
from lane.net import pktinfo
from lane.supervisor import FAULTS, report

BUFFER = 1048576
"""The kernel's receive buffer, in bytes."""
BACK_OFF = 0.1
"""Seconds to wait after a failed receive. An immediate retry would only burn CPU."""
BRISK = 0.0002
"""Seconds. After a shorter wait for a packet there are probably more, and the next is looked for at once."""
ALONE = 4
"""Packets in a row behind which none is looked for. Where the event loop is busy, many may wait."""
MOST = 65535
"""Bytes of the largest packet."""
TURN = 16
"""Packets that are handed on before others have their turn."""

Buffer = bytes | bytearray | memoryview
Take = Callable[[bytes, Any], None]
"""Called by the event loop with a packet and its peer. It must not block."""


class UdpSocket:
    """Takes over `sock`, which is bound.

    Peer addresses have the form that the kernel uses. `answers`: an address from `receive` also makes the
    reply leave from the local address that the packet was sent to. Such an address is good only for a reply.
    """

    def __init__(self, sock: socket.socket, *, answers: bool = False) -> None:
        self._picks = answers and pktinfo.want(sock)  # whether it picks the source address of replies
        # The event loop waits, so a plain socket is enough, and its calls are faster.
        self._sock = socket.socket(sock.family, sock.type, fileno=sock.detach())
        self._sock.setblocking(False)
        loop: Any = gevent.get_hub().loop
        self._readable = loop.io(self._sock.fileno(), 1)
        self._again: Any = None  # the timer after a failed receive
        self._handled = 0.0  # when the last packet had been handed on
        self._round = this_round()
        self._alone = 0  # packets that may still be taken without a look for a second one
        self._take: Take | None = None
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

    def receive(self, name: str, take: Take) -> None:
        """Call `take` with each packet and the address of its peer, until `pause` or `close`.

        A failure of `take` costs this packet, and is reported as one of `name`.
        """
        self._name, self._take = name, take
        self._readable.start(self._arrived)

    def pause(self) -> None:
        """Receive nothing for now."""
        self._take = None
        self._readable.stop()
        if self._again is not None:
            self._again.close()

    def _arrived(self) -> None:
        alone, taken = self._alone > 0 and self._round.began - self._handled >= BRISK, 0
        most = 1 if alone else TURN
        following = self._next if self._picks else self._sock.recvfrom
        while taken < most and (take := self._take) is not None:
            try:
                packet, where = following(MOST)
            except BlockingIOError:
                break
            except OSError as error:
                self._failed(error)
                break
            taken += 1
            try:
                take(packet, where)
            except FAULTS as error:
                report(self._name, error)
        if taken > 1:
            self._alone = 0
        else:
            self._alone = self._alone - 1 if alone else ALONE
        self._handled = monotonic()

    def _next(self, size: int) -> tuple[bytes, Any]:
        packet, ancillary, _, address = self._sock.recvmsg(size, pktinfo.ROOM)
        return packet, (address, pktinfo.source(ancillary))

    def _failed(self, error: OSError) -> None:
        """Go on a little later, unless it was closed by mistake: a retry can't help then."""
        self._readable.stop()
        if error.errno not in (errno.EBADF, errno.ENOTSOCK):
            self._again = self._readable.loop.timer(BACK_OFF)
            self._again.start(self._readable.start, self._arrived)

    def detach(self) -> int:
        """Give the descriptor away. No call may follow."""
        self._end()
        return self._sock.detach()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if not self._closed:
            self._end()
            self._sock.close()

    def _end(self) -> None:
        self._closed = True
        self.pause()
        self._readable.close()
