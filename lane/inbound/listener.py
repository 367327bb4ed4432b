"""A port that applications connect to, whatever protocol it speaks.

It holds the one limit that protects all others: the number of connections at once. When that limit is
reached, the port stops accepting. New connections then wait in the kernel, where they cost this process
nothing, and the connections in progress are not affected.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import gevent.pool
import gevent.socket as gsocket

from lane.address import Address, normal_host
from lane.net.accept import Acceptor
from lane.net.listen import listen
from lane.net.own import TCP, OwnPort
from lane.net.sockets import reset_on_close, tune
from lane.supervisor import supervise

BACKLOG = 1024
"""Connections that may wait in the kernel, which has a limit of its own (net.core.somaxconn)."""
END_TIME = 5.0
"""Seconds that connections have to end once they are told to."""

log = logging.getLogger("lane.inbound")


class Inbound:
    """Listens on every address that `address` stands for (`lane.net.listen`) and serves each connection.

    It calls `serve` with each connection, and closes the connection when `serve` returns. `pool` limits how
    many connections are served at once; all inbounds of a client share one pool. `refused`: the kinds of
    traffic that must not lead to this port (`lane.net.own`). Raises ConfigError if it can't listen.
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
            tune(sock)  # accepted sockets inherit the options
            reset_on_close(sock)
        places = [Address(*sock.getsockname()[:2]) for sock in self._listeners]
        self.addresses = [Address(normal_host(host), port) for host, port in places]
        """The addresses that it listens on."""
        self.address = self.addresses[0]
        self._own = [OwnPort(place, *refused) for place in places]

    @property
    def sessions(self) -> int:
        """The pool's connections that are served now, including those in their handshake."""
        return len(self._pool)

    def start(self) -> None:
        """Begin to accept."""
        for sock in self._listeners:
            what = f"connections on {Address(*sock.getsockname()[:2])}"
            self._acceptors.append(supervise(f"the acceptance of {what}", self._accept, Acceptor(sock, what)))

    def pause(self) -> None:
        """Stop accepting for now: another process does."""
        gevent.killall(self._acceptors)  # no limit: they only accept
        self._acceptors.clear()

    def resume(self) -> None:
        """Accept again."""
        self.start()

    def take_over(self, serve: Callable[[], None]) -> None:
        """Serve a connection that another process has accepted, also if the pool is full."""
        greenlet: gevent.Greenlet[..., None] = gevent.Greenlet(serve)
        if self._pool.full():
            greenlet.start()
        else:
            self._pool.start(greenlet)

    def welcome(self, descriptor: int) -> None:
        """Serve a connection of which another process knows nothing yet. Raises OSError."""
        sock = gsocket.socket(fileno=descriptor)
        try:
            peer = sock.getpeername()
        except OSError:
            sock.detach()
            raise
        self.take_over(partial(self._serve, sock, peer))

    def close(self) -> None:
        """Stop accepting. Connections in progress continue. Idempotent."""
        self.pause()
        for sock in self._listeners:
            sock.close()
        self._own = []

    def kill(self) -> None:
        """End every connection of the pool, and wait at most END_TIME seconds for that."""
        self._pool.kill(timeout=END_TIME)

    def _accept(self, acceptor: Acceptor) -> None:
        while True:
            self._pool.wait_available()  # no limit: applications decide when a place becomes free
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
