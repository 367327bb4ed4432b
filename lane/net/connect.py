"""Connections of TCP to a host: its name looked up, its addresses raced, and what went wrong in words."""

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
"""Whom look-ups for lane's own connections are counted to: they have places whatever applications ask for."""
Result = TypeVar("Result")


def connect_to(where: Where) -> socket.socket:
    """A connection to one address and port, tuned. Blocks for as long as the system does; raises OSError."""
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
    """Whether a port that nobody listens on was picked for our own end: TCP connects it to itself then."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # the peer has gone already
        return False


class Connector:
    """Finds hosts by name, and connects to whichever of their addresses is first to work."""

    def __init__(self, resolver: Resolver | None = None) -> None:
        self._resolver = resolver
        self._eyeballs = Eyeballs()

    def connect(self, endpoint: Address, timeout: float) -> socket.socket:
        """A connection of TCP within `timeout` seconds, look-up included. Raises Unreachable."""
        try:
            return self.open(endpoint, timeout)
        except TargetError as error:
            raise Unreachable(f"cannot look up {endpoint.host}: {error}") from None
        except OSError as error:
            raise Unreachable(f"cannot reach {endpoint}: {error_text(error)}") from None

    def open(self, endpoint: Address, timeout: float) -> socket.socket:
        """As `connect`, for who has words of his own: raises OSError, or TargetError for the look-up."""
        return self.race(endpoint, connect_to, socket.socket.close, timeout)

    def race(
        self,
        endpoint: Address,
        attempt: Callable[[Where], Result],
        discard: Callable[[Result], object],
        timeout: float,
    ) -> Result:
        """What `attempt` makes of an address, as `Eyeballs.connect` has it. Raises what that raises.

        Raises TargetError where the name has none, or is not answered in time.
        """
        resolver = self._resolver or system_resolver()
        until = monotonic() + timeout
        with gevent.Timeout(timeout, TargetError(Status.HOST_UNREACHABLE, "name look-up timed out")):
            found = [(address, endpoint.port) for address in resolver.resolve(endpoint.host, OURSELVES)]
        return self._eyeballs.connect(endpoint, found, attempt, discard, max(until - monotonic(), 0.001))
