"""One address of a listener: its UDP socket, and another one when that fails."""

import logging
import socket
from collections.abc import Callable
from typing import Any

from lane.stream import Address
from lane.supervisor import supervise
from lane_quic.carrier import QuicCarrier
from lane_quic.udp.sockets import bind
from lane_quic.udp.udp import QuicSocket

log = logging.getLogger("lane.quic")

Send = Callable[[list[tuple[bytes, Any]]], None]
Receive = Callable[[Send, list[bytes], Any, float], list[QuicCarrier]]


class Door:
    """Takes over `sock`. `receive` gets what comes, and how to answer from here.

    Errors of sending are one peer's, and prove nothing: his connection ends by its time-outs.
    """

    def __init__(self, sock: socket.socket, receive: Receive, *, offloads: bool) -> None:
        self.address = Address(*sock.getsockname()[:2])
        self._on_datagrams = receive
        self._offloads = offloads
        self._socket = self._open(sock)

    def send(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """Send now, or as soon as the kernel takes it."""
        self._socket.send(datagrams)

    def close(self) -> None:
        """Close the socket, once what waits has been sent if the kernel takes it."""
        self._socket.close()

    def _open(self, sock: socket.socket) -> QuicSocket:
        return QuicSocket(sock, self._receive, on_broken=self._renew, offloads=self._offloads)

    def _receive(self, datagrams: list[bytes], path: Any, now: float) -> list[QuicCarrier]:
        return self._on_datagrams(self.send, datagrams, path, now)

    def _renew(self) -> None:
        log.error("the UDP socket of %s failed: another one is made", self.address)
        supervise(f"listening on {self.address} (UDP)", self._listen_again)

    def _listen_again(self) -> None:
        """Raises ConfigError as long as that is not possible."""
        before = self._socket
        if before.closed:
            return
        (sock,) = bind(self.address)
        self._socket = self._open(sock)
        before.close()
