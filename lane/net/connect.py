"""TCP connections to a host: the look-up of its name, the race between its addresses, readable errors.

A proxy makes one for each connection of an application. So they are plain sockets (`lane.net.sockets.plain`)
unless the caller wants one of gevent.
"""

import errno
import os
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from time import monotonic
from typing import Any, TypeVar

from gevent import get_hub
from gevent.socket import socket as GeventSocket  # noqa: N812  (the name of the type, not of a function)

from lane.address import Address
from lane.deadline import deadline
from lane.errors import Status, TargetError, Unreachable
from lane.net.failures import error_text
from lane.net.names import literal
from lane.net.own import dialled
from lane.net.race import Eyeballs
from lane.net.resolver import Resolver, system_resolver
from lane.net.sockets import family_of, sockaddr, tune

Where = tuple[IPv4Address | IPv6Address, int]
"""An address and a port."""
OURSELVES = "lane"
"""The user that look-ups for lane's own connections count against, so that applications can't starve them."""
Result = TypeVar("Result")
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)


def connect_to(where: Where, tune: Callable[[Any], None] = tune) -> socket.socket:
    """Connect to one address and port; return the socket, with the options that `tune` sets.

    Waits for as long as the system lets it. Raises OSError.
    """
    address, port = where
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        tune(sock)
        _connect(sock, sockaddr(address, port))
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


def _connect(sock: socket.socket, there: Any) -> None:
    """Connect. Raises OSError."""
    number = sock.connect_ex(there)
    if number in _UNDER_WAY:
        number = sock.connect_ex(there)  # within a machine it is done by now, and nobody need wake up for it
    if number in _UNDER_WAY:
        hub: Any = get_hub()
        watcher = hub.loop.io(sock.fileno(), 2)
        try:
            hub.wait(watcher)  # no limit: the caller has one, and the kernel has its own
        finally:
            watcher.close()
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number not in (0, errno.EISCONN):
        raise OSError(number, os.strerror(number))


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

    def connect(self, endpoint: Address, timeout: float) -> GeventSocket:
        """Open a TCP connection within `timeout` seconds, look-up included. Raises Unreachable."""
        return _of_gevent(self.connect_plain(endpoint, timeout))

    def connect_plain(
        self, endpoint: Address, timeout: float, tune: Callable[[Any], None] = tune
    ) -> socket.socket:
        """As `connect`, but a plain socket, with the options that `tune` sets."""
        try:
            return self._open(endpoint, timeout, tune)
        except TargetError as error:
            raise Unreachable(f"cannot look up {endpoint.host}: {error}") from None
        except OSError as error:
            raise Unreachable(f"cannot reach {endpoint}: {error_text(error)}") from None

    def open(self, endpoint: Address, timeout: float) -> GeventSocket:
        """As `connect`, but raises the original errors: OSError, or TargetError for the look-up."""
        return _of_gevent(self._open(endpoint, timeout, tune))

    def _open(self, endpoint: Address, timeout: float, tune: Callable[[Any], None]) -> socket.socket:
        return self.race(endpoint, lambda where: connect_to(where, tune), socket.socket.close, timeout)

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
        until = monotonic() + timeout
        if self._resolver is None and (address := literal(endpoint.host)):  # there is nothing to wait for
            found = [(address, endpoint.port)]
        else:
            resolver = self._resolver or system_resolver()
            with deadline(timeout, _no_name):
                found = [(address, endpoint.port) for address in resolver.resolve(endpoint.host, OURSELVES)]
        return self._eyeballs.connect(endpoint, found, attempt, discard, max(until - monotonic(), 0.001))


def _no_name() -> TargetError:
    return TargetError(Status.HOST_UNREACHABLE, "name look-up timed out")


def _of_gevent(sock: socket.socket) -> GeventSocket:
    return GeventSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
