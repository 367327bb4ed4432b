"""A TCP socket as a `lane.stream.Stream`.

The relay has a session on one side, and the socket of an application or a target on the other. As a stream,
the socket has the same half-close and reset as a session, so there is one relay for both sides. The plain-TCP
transport of the test kit uses it, too.

The kernel reports an error of a connection once, to the first caller. Later calls see an end of data. So this
module keeps the first error: a connection that broke under the writer must not look like a clean end to the
reader.
"""

import errno
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent.exceptions import ConcurrentObjectUseError

from lane.errors import Closed, Failure
from lane.net import hangups
from lane.net.failures import ended

_LINGER = struct.pack("ii", 0, 0)  # struct linger: off, so that close sends FIN and the kernel delivers
_LINGER_NOT = struct.pack("ii", 1, 0)  # on, 0 seconds, so that close sends RST
_RESET_HERE, _CLOSED_HERE, _CLOSED_THERE = (
    Failure.of(Closed(why)) for why in ("reset here", "closed here", "closed by the peer")
)


class SocketStream:
    """The stream of one connected `gevent.socket.socket`, which it owns. It has no buffer."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._failure: Failure[Closed] | None = None
        self._finished = False
        self._sending = False
        self._watched: int | None = None  # the descriptor
        # If the process is killed, its sockets close with RST: the peer must not take that for an end.
        self._linger(_LINGER_NOT)

    @property
    def finished(self) -> bool:
        """Whether our direction was ended."""
        return self._finished

    @property
    def broken(self) -> bool:
        """Whether the stream was closed here or is known to be lost."""
        return self._failure is not None

    @property
    def unsent(self) -> int:
        """Bytes in the kernel that the peer has not acknowledged; 0 if the kernel does not tell."""
        if not hasattr(termios, "TIOCOUTQ"):
            return 0
        try:
            held = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # closed
            return 0
        return int.from_bytes(held, sys.byteorder)

    def recv(self, limit: int = 262144) -> bytes:
        """Block for 1 to `limit` bytes; b"" for the peer's FIN. Raises Reset or Closed."""
        try:
            data: bytes = self._sock.recv(limit)
        except (OSError, ConcurrentObjectUseError) as error:
            raise self._fail(error) from None
        if not data and self._failure is not None:
            raise self._failure.build()
        return data

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the kernel. Raises Reset or Closed."""
        if self._finished:
            raise self._failure.build() if self._failure else Closed("the stream is finished")
        if self._sending:
            raise Closed("another sendall was not completed")
        self._sending = True
        try:
            sent = self._sock.send(data)
            if sent < len(data):
                view = memoryview(data)
                while sent < len(view):
                    sent += self._sock.send(view[sent:])
        except (OSError, ConcurrentObjectUseError) as error:
            raise self._fail(error) from None
        self._sending = False  # not in a `finally`: after a deadline, only a reset is allowed

    def offer(self, data: bytes | bytearray | memoryview) -> int:
        """Pass to the kernel the bytes that it takes at once. Returns their number. Errors show later."""
        if self._finished or self._sending or self._failure is not None:
            return 0
        try:
            sent: int = self._sock.send(data, 0, 0.0)  # without waiting
        except BlockingIOError:
            return 0
        except OSError as error:
            self._fail(error)  # the kernel says it once
            return 0
        return sent

    def finish(self) -> None:
        """Send FIN; the other direction goes on. Idempotent. Raises Closed where it can't be delivered."""
        if self._finished:
            return
        self._finished = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._fail(error) from None

    def reset(self, code: int = 0) -> None:
        """Send RST, for which TCP has no code, and wake blocked greenlets with Closed."""
        self._linger(_LINGER_NOT)
        self._release(_RESET_HERE)

    def close(self) -> None:
        """Release the socket with FIN. The kernel sends RST instead if there is unread input.

        After a blocked or interrupted `sendall` the data is not whole, so the socket is reset.
        """
        if self._sending:
            self.reset()
        else:
            self._linger(_LINGER)
            self._release(_CLOSED_HERE)

    def lost(self) -> bool:
        """Whether a stream without a reader has lost its peer. It looks now, and never blocks."""
        if self._failure is None:
            timeout = self._sock.gettimeout()
            self._sock.settimeout(0)  # no switch to other greenlets before it is restored
            try:
                if not self._sock.recv(1, socket.MSG_PEEK):
                    self._end(_CLOSED_THERE)
            except BlockingIOError:
                pass
            except OSError as error:
                self._fail(error)
            finally:
                self._sock.settimeout(timeout)
        return self.broken

    def watch(self, broke: Callable[[], None]) -> None:
        """Call `broke`, which must not block, when the connection breaks, even if no greenlet reads it."""

        def over() -> None:
            number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:  # else both directions have ended
                self._end(Failure.of(ended(number)))  # the kernel says it once
                broke()

        if self._failure is None:
            self._watched = self._sock.fileno()
            hangups.watch(self._watched, over)

    def _linger(self, how: bytes) -> None:
        with suppress(OSError):  # closed already
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)

    def _release(self, why: Failure[Closed]) -> None:
        self._end(why)
        self._finished = True
        if self._watched is not None:
            hangups.forget(self._watched)
            self._watched = None
        self._sock.close()

    def _end(self, why: Failure[Closed]) -> None:
        """Keep `why` as the reason for the end, unless there is one already."""
        self._failure = self._failure or why

    def _fail(self, error: Exception) -> Closed:
        """Translate `error` for callers."""
        if isinstance(error, ConcurrentObjectUseError):
            return Closed("two greenlets use one direction of a stream")
        self._end(Failure.of(ended(getattr(error, "errno", None) or errno.EIO)))
        assert self._failure is not None
        return self._failure.build()
