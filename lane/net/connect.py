"""TCP connections to a host: the look-up of its name, the race between its addresses, readable errors.

A proxy makes one for each connection of an application. So they are plain sockets (`lane.net.sockets.plain`)
unless the caller wants one of gevent.
"""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from time import monotonic
from typing import Any, TypeVar

import gevent
from gevent import get_hub
from gevent.select import POLLOUT, poll
from gevent.socket import socket as GeventSocket  # noqa: N812  (the name of the type, not of a function)

from lane.address import Address
from lane.deadline import deadline
from lane.errors import Status, TargetError, Unreachable
from lane.net.failures import error_text
from lane.net.names import literal
from lane.net.own import dialled
from lane.net.race import STAGGER, Eyeballs
from lane.net.resolver import Resolver, system_resolver
from lane.net.sockets import family_of, sockaddr, tune

Where = tuple[IPv4Address | IPv6Address, int]
"""An address and a port."""
OURSELVES = "lane"
"""The user that look-ups for lane's own connections count against, so that applications can't starve them."""
Result = TypeVar("Result")
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)


def connect_to(
    where: Where, tune: Callable[[Any], None] = tune, patience: float | None = None
) -> socket.socket:
    """Connect to one address and port; return the socket, with the options that `tune` sets.

    Waits for as long as the system lets it. After `patience` seconds without an answer, a second attempt
    begins beside the first one: the kernel repeats a lost SYN only after a second (RFC 6298, section 2.1).
    Raises OSError.
    """
    address, port = where
    sock, under_way = _begin(where, tune)
    try:
        if under_way and not _answered(sock, patience):
            sock = _first_of(sock, where, tune)
        here = sock.getsockname()
        if here[1] == port and _is_its_own_peer(sock):
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        dialled(sock, here, address, port)
    except BaseException:
        sock.close()
        raise
    return sock


def _begin(where: Where, tune: Callable[[Any], None]) -> tuple[socket.socket, bool]:
    """A socket that connects, and whether that is still under way. Raises OSError."""
    address, port = where
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        tune(sock)
        there = sockaddr(address, port)
        number = sock.connect_ex(there)
        if number in _UNDER_WAY:
            # Within a machine it is done by now, and nobody need wake up for it.
            number = sock.connect_ex(there)
        if number == errno.EADDRNOTAVAIL:
            raise OSError(number, "No local port or address is free for that")
        _raise(number)
    except BaseException:
        sock.close()
        raise
    return sock, number in _UNDER_WAY


def _raise(number: int) -> None:
    """Raise OSError unless this outcome of `connect` is a connection, or is none yet."""
    if number not in (0, errno.EISCONN, *_UNDER_WAY):
        raise OSError(number, os.strerror(number))


def _answered(sock: socket.socket, patience: float | None) -> bool:
    """Wait until `sock` is connected, at most `patience` seconds. Return whether it is. Raises OSError."""
    hub: Any = get_hub()
    watcher = hub.loop.io(sock.fileno(), 2)
    late = gevent.Timeout(patience)
    try:
        with late:
            hub.wait(watcher)  # no limit: the caller has one, and the kernel has its own
    except gevent.Timeout as timeout:
        if timeout is not late:
            raise
        return False
    finally:
        watcher.close()
        del late  # its traceback has this frame
    _raise(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    return True


def _first_of(first: socket.socket, where: Where, tune: Callable[[Any], None]) -> socket.socket:
    """The first socket that is connected: `first`, whose answer is late, or another one. Raises OSError."""
    tried, poller = [first], poll()  # `select` takes no descriptors from 1024 on
    try:
        with suppress(OSError):  # no descriptor or port is free
            tried.append(_begin(where, tune)[0])
        for sock in tried:
            poller.register(sock, POLLOUT)
        ready = dict(poller.poll())  # no limit: as above
        found = next(sock for sock in tried if sock.fileno() in ready)
        _raise(found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        tried.remove(found)
        return found
    finally:
        for sock in tried:
            sock.close()


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
        self._took: deque[float] = deque(maxlen=8)  # seconds until an answer came, the last times

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
        def attempt(where: Where) -> socket.socket:
            began = monotonic()
            sock = connect_to(where, tune, max(STAGGER, 2 * min(self._took, default=0.0)))
            self._took.append(monotonic() - began)
            return sock

        return self.race(endpoint, attempt, socket.socket.close, timeout)

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
