"""Applications that are connected and have not begun a request: new ones, and HTTP between two requests.

Nothing is known of such a connection but its socket. So it can go to another process as it is.
"""

import os
from collections.abc import Iterator

import gevent
import gevent.socket

from lane.errors import Suspended
from lane.inbound.handshake_io import receive


class Openings:
    """The waiting connections of a proxy port, at most as many as it serves."""

    def __init__(self) -> None:
        self._waiting: dict[gevent.Greenlet[..., None], gevent.socket.socket] = {}

    def receive(self, sock: gevent.socket.socket) -> bytes:
        """Receive the first bytes of a request. Raises Left, OSError; Suspended if another process does."""
        waiting = gevent.getcurrent()
        self._waiting[waiting] = sock
        try:
            return receive(sock)
        finally:
            del self._waiting[waiting]

    def take(self) -> Iterator[int]:
        """The descriptor of each that waits, which is the caller's then. It is not served here any more."""
        for greenlet, sock in [*self._waiting.items()]:
            if greenlet in self._waiting:  # others have run meanwhile
                descriptor = os.dup(sock.fileno())
                greenlet.kill(Suspended)  # no limit: it only reads
                yield descriptor
