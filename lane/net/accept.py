"""Accepts connections for as long as the listening socket exists.

A process without free descriptors can't accept, and new connections wait in the kernel. Accepting goes on as
soon as a descriptor is free, which usually takes a moment. If it takes longer, the waiting peers get a clear
answer: each connection is accepted with a reserved descriptor, and reset.
"""

import errno
import logging
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

import gevent
from gevent import socket as gsocket

from lane.errors import Closed
from lane.fair import maybe_yield, this_round
from lane.log import Throttle
from lane.net.descriptors import reserve
from lane.net.sockets import plain, reset_on_close

BACK_OFF = 0.1
"""Seconds to wait after a failed accept. An immediate retry without descriptors would only burn CPU."""
PATIENCE = 3.0
"""Seconds without descriptors after which new connections are reset."""
SOCKET = "_accept"
"""The private name of gevent's sockets that is used here: the kernel's accept, without a wait."""
_AT_ONCE = 64  # connections that are reset before other greenlets run

T = TypeVar("T")

log = logging.getLogger("lane.net")
_throttle = Throttle()


class Acceptor:
    """Accepts connections from `sock`, a listener that the caller closes. `what`: the name for the log."""

    def __init__(self, sock: Any, what: str) -> None:
        self._sock = sock
        self._accept: Callable[[], tuple[int, Any]] = getattr(sock, SOCKET)
        self._family = sock.family
        self._what = what
        self._waited_in = -1.0  # the round in which the last `accept` began
        self._failing_since: float | None = None  # set while connections wait in vain

    def accept(self) -> tuple[gsocket.socket, Any]:
        """Wait for the next connection; return it and its peer's address.

        Raises Closed once the socket is closed.
        """
        return self._next(self._sock.accept)

    def accept_plain(self) -> tuple[socket.socket, Any]:
        """As `accept`, but returns a socket as `lane.net.sockets.plain` does."""
        return self._next(self._accept_plain)

    def _accept_plain(self) -> tuple[socket.socket, Any]:
        try:
            descriptor, peer = self._accept()
        except BlockingIOError:
            sock, peer = self._sock.accept()
            return plain(sock), peer
        sock = socket.socket(self._family, socket.SOCK_STREAM, fileno=descriptor)
        sock.setblocking(False)
        return sock, peer

    def _next(self, accept: Callable[[], tuple[T, Any]]) -> tuple[T, Any]:
        while True:
            maybe_yield(self._waited_in)  # `accept` need not block under load
            self._waited_in = this_round().began
            try:
                found = accept()
            except ConnectionError:
                pass  # the peer disconnected while it was queued
            except OSError as error:
                if self._sock.closed:
                    raise Closed("the listener is closed") from None
                self._failed(error)
            else:
                self._failing_since = None
                return found

    def _failed(self, error: OSError) -> None:
        now = monotonic()
        if not self._somebody_waits():  # without descriptors `accept` always fails
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
            if _throttle.allows(self._what) is not None:
                log.warning("cannot accept %s: %s", self._what, error.strerror or error)
        elif error.errno in (errno.EMFILE, errno.ENFILE) and now - self._failing_since > PATIENCE:
            with reserve, suppress(OSError):  # no connection is left, or another thread took the descriptor
                self._reset_some()
        gevent.sleep(BACK_OFF)

    def _somebody_waits(self) -> bool:
        found = select.poll()
        found.register(self._sock.fileno(), select.POLLIN)
        return bool(found.poll(0))

    def _reset_some(self) -> None:
        """Reset waiting connections. Raises OSError when none is left."""
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)  # no switch to other greenlets before it is restored
        try:
            for _ in range(_AT_ONCE):
                sock, _ = self._sock.accept()
                with sock, suppress(OSError):  # a UNIX socket has no such option
                    reset_on_close(sock)
        finally:
            self._sock.settimeout(timeout)
