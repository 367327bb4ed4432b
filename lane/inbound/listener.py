"""A port that applications connect to, whatever is spoken there.

It holds the one limit that protects all others: how many connections there are at once. When they are
all taken it stops accepting, so that new ones wait in the kernel and cost nothing here, and those that
are served don't notice.
"""

import logging
from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool
import gevent.socket as gsocket

from lane.address import Address, normal_host
from lane.net.accept import Acceptor
from lane.net.listen import listen
from lane.net.own import TCP, OwnPort
from lane.net.sockets import tune
from lane.supervisor import supervise

BACKLOG = 1024
"""Connections that may wait in the kernel, which has a limit of its own (net.core.somaxconn)."""
END_TIME = 5.0
"""Seconds that connections have to end once they are told to."""

log = logging.getLogger("lane.inbound")


class Inbound:
    """Listens on all that `address` stands for (`lane.net.listen`) and calls `serve` with each connection.

    That is closed when `serve` returns. `pool` limits how many connections are served at once; all inbounds
    of a client share one. `refused`: what must not lead here (`lane.net.own`). Raises ConfigError if it
    can't listen.
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
        self._acceptors: list[Any] = []
        self._listeners = listen(address, BACKLOG)
        for sock in self._listeners:
            tune(sock)  # what it accepts inherits that
        places = [Address(*sock.getsockname()[:2]) for sock in self._listeners]
        self.addresses = [Address(normal_host(host), port) for host, port in places]
        """Where it listens."""
        self.address = self.addresses[0]
        self._own = [OwnPort(place, *refused) for place in places]

    @property
    def sessions(self) -> int:
        """Connections of the pool that are served now, those in their handshake included."""
        return len(self._pool)

    def start(self) -> None:
        """Begin to accept."""
        for sock in self._listeners:
            what = f"connections on {Address(*sock.getsockname()[:2])}"
            self._acceptors.append(supervise(f"the acceptance of {what}", self._accept, Acceptor(sock, what)))

    def close(self) -> None:
        """Stop accepting; connections that are served go on. Idempotent."""
        gevent.killall(self._acceptors)  # no limit: they only accept
        for sock in self._listeners:
            sock.close()
        self._own = []

    def kill(self) -> None:
        """End every connection of the pool, and wait until they have ended, END_TIME seconds at most."""
        self._pool.kill(timeout=END_TIME)

    def _accept(self, acceptor: Acceptor) -> None:
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
