"""A listening socket of the server, and helpers for its addresses."""

import ipaddress
import os
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from gevent import socket

from lane.address import Address, normal_host
from lane.errors import Status, TargetError
from lane.net import sockets
from lane.net.accept import Acceptor
from lane.net.failures import target_error
from lane.net.listen import listen_on

BACKLOG = 256
"""Connections that may wait in the kernel, which has a limit of its own (net.core.somaxconn)."""

Arrival = tuple[socket.socket, Address]
"""An accepted connection, and its peer's address."""


class EgressListener:
    """The listening socket `sock`, of `open_at` here or in another process.

    `closed` is called once, when it closes.
    """

    def __init__(self, sock: socket.socket, closed: Callable[[], None]) -> None:
        self._sock = sock
        sockets.reset_on_close(sock)  # accepted sockets inherit it
        self.address = Address(*self._sock.getsockname()[:2])
        self._acceptor = Acceptor(self._sock, f"connections on {self.address}")
        self._on_close = closed
        self.closed = False

    def accept(self) -> Arrival:
        """Wait for the next connection. Raises Closed."""
        sock, where = self._acceptor.accept()
        return sock, _peer(where)

    def share(self) -> int:
        """Another descriptor of the socket, for another process."""
        return os.dup(self._sock.fileno())

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if not self.closed:
            self.closed = True
            self._sock.close()
            self._on_close()


def open_at(where: Address) -> socket.socket:
    """A socket that listens at `where`. Raises TargetError if it can't."""
    try:
        address = ipaddress.ip_address(where.host)
        sockets.sockaddr(address, where.port)
    except (ValueError, OSError):  # OSError: the scope names no interface of this machine
        raise TargetError(Status.ADDRESS_NOT_SUPPORTED, f"cannot listen on {where}: no IP address") from None
    try:
        sock: socket.socket = listen_on(address, where.port, BACKLOG)
    except OSError as error:
        why = target_error(error)
        raise TargetError(why.status, f"cannot listen on {where}: {why}") from None
    sockets.tune(sock)  # accepted sockets inherit the options
    return sock


def _peer(where: Any) -> Address:
    """The peer's address without a scope. An IPv4 peer of an IPv6 socket has its IPv4 address."""
    return Address(normal_host(where[0].partition("%")[0]), where[1])


def own_address(peer: IPv4Address | IPv6Address) -> str:
    """The address of this machine on the route to `peer`. Raises TargetError."""
    try:
        return sockets.own_address(peer)
    except OSError as error:
        raise target_error(error) from None
