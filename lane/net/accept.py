"""Accepting connections, for as long as the listening socket is there.

A process without descriptors can't accept, and the connections wait in the kernel. It goes on as soon as it
has some again, which mostly is at once. Where that takes longer, nobody should have to wait for it without a
word: then each connection is accepted with a descriptor that is kept for that, and reset.
"""

import errno
import logging
import select
import socket
import struct
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
from gevent import socket as gsocket

from lane.errors import Closed
from lane.fair import maybe_yield
from lane.log import Throttle
from lane.net.descriptors import reserve

BACK_OFF = 0.1
"""Seconds to wait after a failed accept: without descriptors, trying at once again would only burn CPU."""
PATIENCE = 3.0
"""Seconds without descriptors after which who connects is reset."""
_AT_ONCE = 64  # connections that are reset before others have their turn
_LINGER_NOT = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds, so that close sends RST

log = logging.getLogger("lane.net")
_throttle = Throttle()


class Acceptor:
    """Takes connections from `sock`, which listens and stays the caller's to close. `what`: for the log."""

    def __init__(self, sock: Any, what: str) -> None:
        self._sock = sock
        self._what = what
        self._failing_since: float | None = None  # while somebody waits

    def accept(self) -> tuple[gsocket.socket, Any]:
        """The next connection, and whom it is from. Raises Closed once the socket is closed."""
        while True:
            maybe_yield()  # there may always be one that waits
            try:
                found: tuple[gsocket.socket, Any] = self._sock.accept()
            except ConnectionError:
                pass  # it went away while it was queued
            except OSError as error:
                if self._sock.closed:
                    raise Closed("the listener is closed") from None
                self._failed(error)
            else:
                self._failing_since = None
                return found

    def _failed(self, error: OSError) -> None:
        now = monotonic()
        if not self._somebody_waits():  # a lack of descriptors is told all the same
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
            if _throttle.allows(self._what) is not None:
                log.warning("cannot accept %s: %s", self._what, error.strerror or error)
        elif error.errno in (errno.EMFILE, errno.ENFILE) and now - self._failing_since > PATIENCE:
            with reserve, suppress(OSError):  # there are no more of them, or another thread was quicker
                self._reset_some()
        gevent.sleep(BACK_OFF)

    def _somebody_waits(self) -> bool:
        found = select.poll()
        found.register(self._sock.fileno(), select.POLLIN)
        return bool(found.poll(0))

    def _reset_some(self) -> None:
        """Reset connections that wait. Raises OSError when there is none."""
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)  # no switch to other greenlets before it is restored
        try:
            for _ in range(_AT_ONCE):
                sock, _ = self._sock.accept()
                with sock, suppress(OSError):  # a UNIX socket has no such option
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        finally:
            self._sock.settimeout(timeout)
