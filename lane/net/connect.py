"""TCP connections to a host: the look-up of its name, the race between its addresses, readable errors."""

import errno
import os
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from time import monotonic
from typing import TypeVar

import gevent
from gevent import socket

from lane.address import Address
from lane.errors import Status, TargetError, Unreachable
from lane.net.failures import error_text
from lane.net.own import dialled
from lane.net.race import Eyeballs
from lane.net.resolver import Resolver, system_resolver
from lane.net.sockets import family_of, sockaddr, tune

Where = tuple[IPv4Address | IPv6Address, int]
"""An address and a port."""
OURSELVES = "lane"
"""The user that look-ups for lane's own connections count against, so that applications can't starve them."""
Result = TypeVar("Result")


def connect_to(where: Where) -> socket.socket:
    """Connect to one address and port; return the tuned socket.

    Blocks for as long as the system lets it. Raises OSError.
    """
    address, port = where
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    try:
        tune(sock)
        sock.connect(sockaddr(address, port))
        here = sock.getsockname()
        if here[1] == port and _is_its_own_peer(sock):
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        dialled(sock, here, address, port)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
            raise OSError(error.errno, "No local port or address is free for that") from None
        raise
    return sock


def _is_its_own_peer(sock: socket.socket) -> bool:
    """Whether the socket is connected to itself.

    TCP does that when nobody listens on the target port and the kernel picks that same port for our end.
    """
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # the peer has disconnected already
        return False


class Connector:
    """Looks hosts up and connects to the first of their addresses that works."""

    def __init__(self, resolver: Resolver | None = None) -> None:
        self._resolver = resolver
        self._eyeballs = Eyeballs()

    def connect(self, endpoint: Address, timeout: float) -> socket.socket:
        """Open a TCP connection within `timeout` seconds, look-up included. Raises Unreachable."""
        try:
            return self.open(endpoint, timeout)
        except TargetError as error:
            raise Unreachable(f"cannot look up {endpoint.host}: {error}") from None
        except OSError as error:
            raise Unreachable(f"cannot reach {endpoint}: {error_text(error)}") from None

    def open(self, endpoint: Address, timeout: float) -> socket.socket:
        """As `connect`, but raises the original errors: OSError, or TargetError for the look-up."""
        return self.race(endpoint, connect_to, socket.socket.close, timeout)

    def race(
        self,
        endpoint: Address,
        attempt: Callable[[Where], Result],
        discard: Callable[[Result], object],
        timeout: float,
    ) -> Result:
        """Look `endpoint` up and run `Eyeballs.connect` with `attempt`. Raises what that raises.

        Raises TargetError if the name has no address or the look-up times out.
        """
        resolver = self._resolver or system_resolver()
        until = monotonic() + timeout
        with gevent.Timeout(timeout, TargetError(Status.HOST_UNREACHABLE, "name look-up timed out")):
            found = [(address, endpoint.port) for address in resolver.resolve(endpoint.host, OURSELVES)]
        return self._eyeballs.connect(endpoint, found, attempt, discard, max(until - monotonic(), 0.001))
