"""Sockets of applications and of targets: what they are asked to do, and what they are called."""

import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from gevent import socket as gsocket

KEEPALIVE = {"TCP_KEEPIDLE": 120, "TCP_KEEPINTVL": 30, "TCP_KEEPCNT": 4}
"""A peer that is gone without a word is noticed after four minutes, where the system would take two hours."""
OUTSIDE = IPv4Address("192.0.2.1")
"""Somewhere else (TEST-NET-1, RFC 5737)."""
_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    # What is urgent is a byte like others, in its place: who reads in the usual way would lose it.
    (socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in KEEPALIVE.items()
        if hasattr(socket, name)
    ),
]


def tune(sock: Any) -> None:
    """Set the options of a connection of TCP, or of a listener: what it accepts inherits them."""
    for level, option, value in _OPTIONS:
        sock.setsockopt(level, option, value)


def family_of(address: IPv4Address | IPv6Address) -> socket.AddressFamily:
    """The family of sockets for an address."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def sockaddr(address: IPv4Address | IPv6Address, port: int) -> Any:
    """An address as sockets take it. Raises OSError for a scope that is no interface of this machine."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        scope = address.scope_id
        host = address.compressed.partition("%")[0]
        return host, port, 0, int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    return address.compressed, port


def own_address(peer: IPv4Address | IPv6Address = OUTSIDE) -> str:
    """The address of this machine on the way to `peer`; nothing is sent to find out. Raises OSError."""
    with gsocket.socket(family_of(peer), socket.SOCK_DGRAM) as sock:
        sock.connect(sockaddr(peer, 9))
        host: str = sock.getsockname()[0]
        return host
