"""Sockets that listen: on every address of a name, on both families where no address is given.

One name may have several addresses: `localhost` is ::1 and 127.0.0.1, and whoever dials one of them expects
an answer. All of their sockets are on one port. Addresses that this machine does not have are left out, as
long as it has one.
"""

import errno
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from gevent import socket as gsocket

from lane.address import Address
from lane.errors import ConfigError, TargetError
from lane.net.failures import error_text
from lane.net.resolver import system_resolver
from lane.net.sockets import family_of, sockaddr

IpAddress = IPv4Address | IPv6Address
Socket = TypeVar("Socket", bound=Any)

_EVERY = IPv6Address("::")
_EVERY_IPV4 = IPv4Address("0.0.0.0")
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_TRIES = 20
"""Ports that the kernel picks for the first address until one is free at all of them."""


def listen(endpoint: Address, backlog: int) -> list[gsocket.socket]:
    """Sockets for connections of TCP, at least one; `backlog` may wait in the kernel. Raises ConfigError.

    An empty host and `::` are every address of IPv4 and IPv6. Port 0 is one that the kernel picks.
    """
    return _all(endpoint, "", lambda address, port: listen_on(address, port, backlog))


def bind_udp(endpoint: Address) -> list[socket.socket]:
    """Sockets for packets, as `listen` has them; they are blocking ones. Raises ConfigError."""
    return _all(
        endpoint, " (UDP)", lambda address, port: _bind(socket.socket, socket.SOCK_DGRAM, address, port)
    )


def listen_on(address: IpAddress, port: int, backlog: int) -> gsocket.socket:
    """A socket for connections to one address. `::` takes IPv4 too, and is 0.0.0.0 where there is no IPv6.

    Raises OSError.
    """
    sock = _bind(gsocket.socket, socket.SOCK_STREAM, address, port)
    try:
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(make: Callable[[int, int], Socket], kind: int, address: IpAddress, port: int) -> Socket:
    sock = None
    try:
        sock = make(family_of(address), kind)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != _EVERY)
        sock.bind(sockaddr(address, port))
    except BaseException as error:
        if sock is not None:
            sock.close()
        if address == _EVERY and isinstance(error, OSError) and error.errno in _NOT_HERE:
            return _bind(make, kind, _EVERY_IPV4, port)
        raise
    return sock


def _all(endpoint: Address, what: str, open_one: Callable[[IpAddress, int], Socket]) -> list[Socket]:
    try:
        found = [_EVERY] if not endpoint.host else system_resolver().resolve(endpoint.host)
        for left in reversed(range(_TRIES)):
            try:
                return _together(found, endpoint.port, open_one)
            except OSError as error:
                if endpoint.port or error.errno != errno.EADDRINUSE or not left:
                    raise
        raise AssertionError("the last try returns or raises")
    except (OSError, TargetError) as error:
        raise ConfigError(f"cannot listen on {endpoint}{what}: {error_text(error)}") from None


def _together(
    addresses: Sequence[IpAddress], port: int, open_one: Callable[[IpAddress, int], Socket]
) -> list[Socket]:
    """A socket for each address that is there, on one port. Raises OSError."""
    opened: list[Socket] = []
    try:
        for number, address in enumerate(addresses, 1):
            try:
                opened.append(open_one(address, port))
            except OSError as error:
                if error.errno not in _NOT_HERE or (number == len(addresses) and not opened):
                    raise
            else:
                port = opened[0].getsockname()[1]
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return opened
