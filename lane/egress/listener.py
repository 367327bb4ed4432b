"""A listening socket of the server, and what there is to know about addresses for it."""

import ipaddress
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_KEEPALIVE,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
)
from typing import Any

from gevent import socket

from lane.address import Address, normal_host
from lane.errors import Status, TargetError
from lane.net import sockets
from lane.net.accept import Acceptor
from lane.net.failures import target_error

BACKLOG = 256
"""Connections that may wait in the kernel, which has a limit of its own (net.core.somaxconn)."""

Arrival = tuple[socket.socket, Address]
"""A connection that came, and whom it is from."""


class Listener:
    """A listening socket; `closed` is called once. Raises TargetError where there can be none."""

    def __init__(self, where: Address, closed: Callable[[], None]) -> None:
        try:
            self._sock = _listen(where.host, where.port)
        except OSError as error:
            why = target_error(error)
            raise TargetError(why.status, f"cannot listen on {where}: {why}") from None
        except (ValueError, TypeError):  # TypeError: a scope that can't be encoded
            raise TargetError(
                Status.ADDRESS_NOT_SUPPORTED, f"cannot listen on {where}: no IP address"
            ) from None
        self.address = Address(*self._sock.getsockname()[:2])
        self._acceptor = Acceptor(self._sock, f"connections on {self.address}")
        self._on_close = closed
        self.closed = False

    def accept(self) -> Arrival:
        """The next connection. Raises Closed."""
        sock, where = self._acceptor.accept()
        return sock, _peer(where)

    def close(self) -> None:
        """Idempotent."""
        if not self.closed:
            self.closed = True
            self._sock.close()
            self._on_close()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; `::` takes IPv4 too, and is `0.0.0.0` where there is no IPv6."""
    family = AF_INET if ipaddress.ip_address(host).version == 4 else AF_INET6
    try:
        sock = socket.socket(family, SOCK_STREAM)
    except OSError:
        if host != "::":
            raise
        return _listen("0.0.0.0", port)
    try:
        for level, option, value in (
            (SOL_SOCKET, SO_REUSEADDR, 1),
            (IPPROTO_TCP, TCP_NODELAY, 1),  # what is accepted inherits these
            (SOL_SOCKET, SO_KEEPALIVE, 1),
        ):
            sock.setsockopt(level, option, value)
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _peer(where: Any) -> Address:
    """Whom a connection is from; one of IPv4 is, however it came."""
    return Address(normal_host(where[0].partition("%")[0]), where[1])


def own_address(peer: IPv4Address | IPv6Address) -> str:
    """The address of this machine on the way to `peer`. Raises TargetError."""
    try:
        return sockets.own_address(peer)
    except OSError as error:
        raise target_error(error) from None
