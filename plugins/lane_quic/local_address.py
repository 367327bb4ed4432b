"""One address of a listener: its UDP socket, which is replaced if it fails."""

import logging
import socket
from collections.abc import Callable
from typing import Any

from lane.stream import Address
from lane.supervisor import supervise
from lane_quic.carrier import QuicCarrier
from lane_quic.udp.offload import Datagrams
from lane_quic.udp.sockets import bind
from lane_quic.udp.udp import QuicSocket

log = logging.getLogger("lane.quic")

Send = Callable[[Datagrams], None]
Receive = Callable[[Send, list[bytes], Any, float], list[QuicCarrier]]


class LocalAddress:
    """Takes over `sock`. `receive` is called with received datagrams and the function that sends answers.

    An error in sending concerns one peer and proves nothing. The timeouts end that peer's connection.
    """

    def __init__(self, sock: socket.socket, receive: Receive, *, offloads: bool) -> None:
        self.address = Address(*sock.getsockname()[:2])
        self._on_datagrams = receive
        self._offloads = offloads
        self._socket = self._open(sock)

    def send(self, datagrams: Datagrams) -> None:
        """Send now, or as soon as the kernel accepts the datagrams."""
        self._socket.send(datagrams)

    def pause(self) -> None:
        """Receive nothing more, and go on sending."""
        self._socket.pause()

    def resume(self) -> None:
        """Receive again."""
        self._socket.resume()

    def close(self) -> None:
        """Close the socket after one attempt to send the queued datagrams."""
        self._socket.close()

    def _open(self, sock: socket.socket) -> QuicSocket:
        return QuicSocket(sock, self._receive, on_broken=self._renew, offloads=self._offloads)

    def _receive(self, datagrams: list[bytes], path: Any, now: float) -> list[QuicCarrier]:
        return self._on_datagrams(self.send, datagrams, path, now)

    def _renew(self) -> None:
        log.error("the UDP socket of %s failed and is replaced", self.address)
        supervise(f"listening on {self.address} (UDP)", self._listen_again)

    def _listen_again(self) -> None:
        """Open a new socket on the same address. Raises ConfigError as long as that fails."""
        before = self._socket
        if before.closed:
            return
        (sock,) = bind(self.address)
        self._socket = self._open(sock)
        before.close()
