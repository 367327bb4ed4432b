"""Listening sockets: on every address of a name, and on both IP versions if no address is given.

One name may have several addresses: `localhost` is ::1 and 127.0.0.1, and a client may dial either. All
sockets of a name use one port. Addresses that this machine does not have are skipped, as long as it has one.

In a worker of a server, `listen` and `bind_udp` give the sockets that its parent opened: see
`lane.net.prepared`. For anything else, the workers share a port by the kernel's hash (SO_REUSEPORT).
"""

import errno
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeVar

from gevent import socket as gsocket

from lane.address import Address
from lane.errors import ConfigError, TargetError
from lane.net import prepared
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
    return _all(gsocket.socket, socket.SOCK_STREAM, endpoint, backlog)


def listen_for_all(endpoint: Address, backlog: int) -> list[socket.socket]:
    """Open blocking TCP sockets as `listen` does, for the parent of processes that share them."""
    return _all(socket.socket, socket.SOCK_STREAM, endpoint, backlog)


def bind_udp(endpoint: Address, *, quic: bool = False) -> list[socket.socket]:
    """Open blocking UDP sockets on the same addresses as `listen` would. Raises ConfigError.

    `quic`: packets look like those of QUIC (RFC 8999), and their connection IDs name a worker by
    `lane.net.siblings`.
    """
    return _all(socket.socket, socket.SOCK_DGRAM, endpoint, quic=quic)


def open_group(wanted: prepared.Wanted, workers: int) -> list[list[socket.socket]]:
    """Open the sockets of all workers, in their order: for each worker, one on each address.

    Raises OSError, with none of them left open.
    """
    opened: list[socket.socket] = []
    try:
        for host, port in wanted.bound:
            for _ in range(workers):
                address = ip_address(host)
                opened.append(_open(socket.socket, wanted.kind, address, port, wanted.backlog, shared=True))
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return [opened[worker::workers] for worker in range(workers)]


def listen_on(address: IpAddress, port: int, backlog: int) -> gsocket.socket:
    """Open a listening socket on one address. Raises OSError.

    `::` accepts IPv4 too, and falls back to 0.0.0.0 if the system has no IPv6.
    """
    return _open(gsocket.socket, socket.SOCK_STREAM, address, port, backlog)


def _open(
    make: Callable[..., Socket],
    kind: int,
    address: IpAddress,
    port: int,
    backlog: int,
    *,
    shared: bool = False,
) -> Socket:
    """Open a socket that listens, if it is one of TCP. `shared`: others may have the same port."""
    sock = _bind(make, kind, address, port, shared=shared)
    try:
        if kind == socket.SOCK_STREAM:
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(
    make: Callable[..., Socket], kind: int, address: IpAddress, port: int, *, shared: bool = False
) -> Socket:
    sock = None
    try:
        sock = make(family_of(address), kind)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != _EVERY)
        sock.bind(sockaddr(address, port))
    except BaseException as error:
        if sock is not None:
            sock.close()
        if address == _EVERY and isinstance(error, OSError) and error.errno in _NOT_HERE:
            return _bind(make, kind, _EVERY_IPV4, port, shared=shared)
        raise
    return sock


def _all(
    make: Callable[..., Socket], kind: int, endpoint: Address, backlog: int = 0, *, quic: bool = False
) -> list[Socket]:
    mine = prepared.mine
    if mine is not None and (given := mine.take(kind, endpoint)) is not None:
        return [make(fileno=one) for one in given]
    shared = mine is not None and bool(endpoint.port) and not prepared.keeps

    def open_one(address: IpAddress, port: int) -> Socket:
        return _open(make, kind, address, port, backlog, shared=shared)

    try:
        opened = _on_one_port(endpoint, open_one)
    except (OSError, TargetError) as error:
        what = " (UDP)" if kind == socket.SOCK_DGRAM else ""
        raise ConfigError(f"cannot listen on {endpoint}{what}: {error_text(error)}") from None
    if mine is not None and prepared.keeps:
        wanted = prepared.wanted_of(kind, endpoint, opened, backlog, quic=quic)
        return [make(fileno=one) for one in mine.keep(wanted, opened)]
    if prepared.rehearsal is not None:
        prepared.rehearsal.note(kind, endpoint, opened, backlog, quic=quic)
    return opened


def _on_one_port(endpoint: Address, open_one: Callable[[IpAddress, int], Socket]) -> list[Socket]:
    found = [_EVERY] if not endpoint.host else system_resolver().resolve(endpoint.host)
    for left in reversed(range(_TRIES)):
        try:
            return _together(found, endpoint.port, open_one)
        except OSError as error:
            if endpoint.port or error.errno != errno.EADDRINUSE or not left:
                raise
    raise AssertionError("the last try returns or raises")


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
