"""Listening sockets: on every address of a name, and on both IP versions if no address is given.

One name may have several addresses: `localhost` is ::1 and 127.0.0.1, and a client may dial either. All
sockets of a name use one port. Addresses that this machine does not have are skipped, as long as it has one.
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
"""Attempts to find a port that is free on all addresses. The kernel picks one for the first address."""


def listen(endpoint: Address, backlog: int) -> list[gsocket.socket]:
    """Open listening TCP sockets, at least one. `backlog` connections may wait in the kernel.

    An empty host and `::` mean every IPv4 and IPv6 address. For port 0 the kernel picks a port. Raises
    ConfigError.
    """
    return _all(endpoint, "", lambda address, port: listen_on(address, port, backlog))


def bind_udp(endpoint: Address) -> list[socket.socket]:
    """Open blocking UDP sockets on the same addresses as `listen` would. Raises ConfigError."""
    return _all(
        endpoint, " (UDP)", lambda address, port: _bind(socket.socket, socket.SOCK_DGRAM, address, port)
    )


def listen_on(address: IpAddress, port: int, backlog: int) -> gsocket.socket:
    """Open a listening socket on one address. Raises OSError.

    `::` accepts IPv4 too, and falls back to 0.0.0.0 if the system has no IPv6.
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
    """Open a socket on each address that the machine has, all on one port. Raises OSError."""
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
