"""SOCKS5 UDP ASSOCIATE (RFC 1928 section 7): a UDP port for one application.

The association lives as long as the TCP connection that requested it, unless no packet moves for a while.
The first packet pins the address that the application sends from, so nobody else can use its port. The
source address in the request is only a hint. An application behind NAT does not know its public port, and
some applications put the target's port there.
"""

import logging
import os
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import gevent
from gevent import socket as gsocket
from gevent.event import Event

from lane.address import Address, normal_host
from lane.carriers.lanes import Leased
from lane.errors import ProtocolError
from lane.fair import maybe_yield, this_round
from lane.inbound.connector import Association, Buffer, TargetConnector
from lane.net.sockets import end_on_close
from lane.net.udp import UdpSocket
from lane.proto.udp import pack_socks, parse_socks
from lane.session.parcel import Parcel

KIND = "association"
"""The kind of its parcel."""

log = logging.getLogger("lane.inbound")


@dataclass(frozen=True, slots=True)
class UdpTerms:
    """The limits of associations."""

    idle_timeout: float = 60.0
    """Seconds without a packet after which an association ends."""
    anyone: bool = False
    """Whether to accept packets from addresses to which the application sent nothing."""


class AppUdpPort:
    """A UDP port for the application at the host `peer`. `said`: the port that it says it sends from."""

    def __init__(self, sock: UdpSocket, peer: str, said: int) -> None:
        self._sock, self._peer, self._said = sock, peer, said
        self.address = Address(normal_host(sock.host), sock.port)
        self._round = this_round()
        self.last = monotonic()
        """When a packet last moved in either direction, by the monotonic clock."""
        self.dropped = 0
        """Packets that were dropped: from another sender, malformed, or refused by the kernel."""
        self._from: Any = None

    @classmethod
    def open(cls, sock: gsocket.socket, source: Address) -> "AppUdpPort":
        """A port for the application that is connected by `sock`, and says that it sends from `source`.

        Raises OSError.
        """
        host, peer = normal_host(sock.getsockname()[0]), normal_host(sock.getpeername()[0])
        opened = UdpSocket.open(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        return cls(opened, peer, source.port)

    def freeze(self) -> tuple[dict[str, Any], int]:
        """What `thaw` needs, as a plain value, and the descriptor, which is the caller's now.

        No call may follow.
        """
        state = {"peer": self._peer, "said": self._said, "from": self._from, "last": self.last}
        return state, self._sock.detach()

    @classmethod
    def thaw(cls, frozen: dict[str, Any], descriptor: int) -> "AppUdpPort":
        """The port that goes on from there, in another process of the same machine."""
        port = cls(UdpSocket(socket.socket(fileno=descriptor)), frozen["peer"], frozen["said"])
        port._from = frozen["from"] and tuple(frozen["from"])
        port.last = frozen["last"]
        return port

    def deliver(self, source: Address, payload: Buffer) -> None:
        """Send a packet to the application. It is dropped while the application's address is unknown."""
        if self._from is None:
            self.dropped += 1
            return
        self.last = self._round.began
        self.dropped += not self._sock.send(pack_socks(source, payload), self._from)

    def receive(self, send: Callable[[Address, bytes], None]) -> None:
        """Call `send`, which must not block, with the target and the payload of each packet until `pause`."""
        self._send = send
        self._sock.receive("the packets of an application", self._take)

    def _take(self, packet: bytes, where: Any) -> None:
        if where == self._from or self._is_ours(where):
            try:
                target, payload = parse_socks(packet)
            except ProtocolError as error:
                log.debug("dropped a packet: %s", error)
            else:
                self.last = self._round.began
                self._send(target, payload)
                return
        self.dropped += 1

    def pause(self) -> None:
        """Receive nothing more. What the association delivers still goes to the application."""
        self._sock.pause()

    def close(self) -> None:
        """Close the port. Idempotent."""
        self._sock.close()

    def _is_ours(self, where: Any) -> bool:
        """Whether a packet from another address than the last is the application's.

        The first one pins the address. A later one from the port that the application announced replaces the
        pin.
        """
        ours = where[0] == self._peer and (self._from is None or where[1] == self._said)
        if ours:
            self._from = where
        return ours


def take_over(parcel: Parcel, leased: Leased | None, connector: TargetConnector) -> Callable[[float], None]:
    """Go on with an association of another process. The caller calls the result with the `idle_timeout`.

    Raises TargetError if there is no room for it.
    """
    control, descriptor = parcel.descriptors
    udp = AppUdpPort.thaw(parcel.state["port"], os.dup(descriptor))
    try:
        association = connector.associate_again(parcel, leased, udp.deliver)
    except BaseException:
        udp.close()
        raise
    os.close(descriptor)

    def serve(idle_timeout: float) -> None:
        with gsocket.socket(fileno=control) as sock, closing(udp), closing(association):
            log.debug("an association ended: %s", relay(sock, udp, association, idle_timeout))

    return serve


def relay(sock: gsocket.socket, port: AppUdpPort, association: Association, idle_timeout: float) -> str:
    """Relay the application's packets until the association ends. Return the reason.

    It ends when `sock`, the connection that requested it, ends, or `idle_timeout` seconds after the last
    packet. It may also go on in another process.
    """
    left = Event()
    watch = gevent.spawn(_watch, sock, left)
    port.receive(association.send)

    def go() -> tuple[dict[str, Any], list[int]]:
        watch.kill()  # no limit: it only reads
        state, descriptor = port.freeze()
        return {"kind": KIND, "port": state}, [sock.detach(), descriptor]

    try:
        association.leaves(go)
        while True:
            idle = port.last + idle_timeout - monotonic()
            if idle <= 0 or left.is_set():
                with suppress(OSError):  # it may have broken
                    end_on_close(sock)
                return "the application left" if left.is_set() else "no packets for a while"
            if association.over.is_set():
                return "the server ended it, or it goes on in another process"
            gevent.wait([left, association.over], idle, 1)
    finally:
        watch.kill(block=False)
        port.pause()


def _watch(sock: gsocket.socket, left: Event) -> None:
    """Wait for the end of the TCP connection. The application has nothing to send on it."""
    with suppress(OSError):
        while sock.recv(4096):
            maybe_yield()
    left.set()
