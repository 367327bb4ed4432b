"""A port that applications connect to, whatever is spoken there.

It holds the one limit that protects all others: how many connections there are at once. When they are
all taken it stops accepting, so that new ones wait in the kernel and cost nothing here, and those that
are served don't notice.
"""

import errno
import logging
from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool
import gevent.socket as gsocket

from lane.address import Address, normal_host
from lane.errors import ConfigError
from lane.net.accept import Acceptor
from lane.net.own import TCP, OwnPort
from lane.supervisor import supervise

BACKLOG = 1024
"""Connections that may wait in the kernel, which has a limit of its own (net.core.somaxconn)."""
END_TIME = 5.0
"""Seconds that connections have to end once they are told to."""

log = logging.getLogger("lane.inbound")


class Inbound:
    """Listens on `address` and calls `serve` with each connection, which is closed when that returns.

    A host of "" means every address, IPv4 and IPv6; port 0 lets the kernel pick. `pool` limits how many
    connections are served at once; all inbounds of a client share one. `refused`: what must not lead here
    (`lane.net.own`). Raises ConfigError if it can't listen.
    """

    def __init__(
        self,
        address: Address,
        serve: Callable[[gsocket.socket], None],
        pool: gevent.pool.Pool,
        refused: tuple[str, ...] = (TCP,),
    ) -> None:
        self._serve_one = serve
        self._pool = pool
        self._acceptor: Any = None
        self._listener = _listen(address)
        host, port = self._listener.getsockname()[:2]
        self.address = Address(normal_host(host), port)
        """Where it listens."""
        self._own: OwnPort | None = OwnPort(self.address, *refused)

    @property
    def sessions(self) -> int:
        """Connections of the pool that are served now, those in their handshake included."""
        return len(self._pool)

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor = supervise(f"the acceptance of connections on {self.address}", self._accept)

    def close(self) -> None:
        """Stop accepting; connections that are served go on. Idempotent."""
        if self._acceptor is not None:
            self._acceptor.kill()  # no limit: it only accepts
        self._listener.close()
        self._own = None

    def kill(self) -> None:
        """End every connection of the pool, and wait until they have ended, END_TIME seconds at most."""
        self._pool.kill(timeout=END_TIME)

    def _accept(self) -> None:
        acceptor = Acceptor(self._listener, f"connections on {self.address}")
        while True:
            self._pool.wait_available()  # no limit: when there is room depends on applications
            sock, peer = acceptor.accept()
            try:
                self._pool.spawn(self._serve, sock, peer)
            except BaseException:
                sock.close()
                raise

    def _serve(self, sock: gsocket.socket, peer: Any) -> None:
        with sock:
            try:
                self._serve_one(sock)
            except (Exception, gevent.Timeout):  # a Timeout that leaks is a bug like any other
                log.exception("a connection from %s failed unexpectedly", peer[0])


def _listen(address: Address) -> gsocket.socket:
    """A listening socket; ConfigError says why there is none."""
    reason: object = "no such address"
    try:
        # "" is every address: IPv6 first, since that one socket takes IPv4 too.
        hosts = [address.host] if address.host else ["::", "0.0.0.0"]
        found = [
            info for host in hosts for info in gsocket.getaddrinfo(host, address.port, 0, gsocket.SOCK_STREAM)
        ]
        for family, kind, protocol, _, where in found:
            try:
                return _bind(gsocket.socket(family, kind, protocol), where)
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                reason = error.strerror
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that can't be encoded for the DNS
        reason = getattr(error, "strerror", None) or error
    raise ConfigError(f"cannot listen on {address}: {reason}")


def _bind(sock: gsocket.socket, where: Any) -> gsocket.socket:
    try:
        sock.setsockopt(gsocket.SOL_SOCKET, gsocket.SO_REUSEADDR, 1)
        sock.setsockopt(gsocket.IPPROTO_TCP, gsocket.TCP_NODELAY, 1)  # what it accepts inherits it
        if sock.family == gsocket.AF_INET6:
            sock.setsockopt(gsocket.IPPROTO_IPV6, gsocket.IPV6_V6ONLY, 0)
        sock.bind(where)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
