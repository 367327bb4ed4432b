"""A TCP socket as a `lane.stream.Stream`.

The relay has a session on one side and an application's or a target's socket on the other. With the
socket in the form of a stream, half-close and reset mean the same on both sides, and the relay is
written once. The plain-TCP transport of the test kit stands on it too.

The kernel reports the error of a connection once, to whoever calls first, and afterwards says that the
data has ended. So the first error is kept here: a connection that broke under the writer must not look
like a clean end to the reader.
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
    """The stream of one connected `gevent.socket.socket`, which it owns. It holds no buffer itself."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._failure: Failure[Closed] | None = None
        self._finished = False
        self._sending = False
        self._watched: int | None = None  # the descriptor
        # A process that is killed closes its sockets: with RST, so that the peer sees that it was no end.
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
        """Bytes that the kernel holds until the peer has acknowledged them; 0 where it does not tell."""
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
        self._sending = False  # not in a `finally`: what a deadline has cut stays cut

    def offer(self, data: bytes | bytearray | memoryview) -> int:
        """Hand to the kernel what it takes at once: how many bytes. What is wrong shows later."""
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
        """Send RST (TCP has no room for a code) and wake whoever is blocked here with Closed."""
        self._linger(_LINGER_NOT)
        self._release(_RESET_HERE)

    def close(self) -> None:
        """Release the socket, with FIN; the kernel sends RST instead if there is input nobody read.

        What a blocked or interrupted `sendall` leaves behind is no whole message: that is a reset too.
        """
        if self._sending:
            self.reset()
        else:
            self._linger(_LINGER)
            self._release(_CLOSED_HERE)

    def lost(self) -> bool:
        """Whether a stream that nobody reads from yet has lost its peer; looks now, never blocks."""
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
        """Have `broke` called once the connection breaks, though nobody may read it. It must not block."""

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
        """Keep `why` as what ended the stream, unless it had ended before."""
        self._failure = self._failure or why

    def _fail(self, error: Exception) -> Closed:
        """What `error` means to callers."""
        if isinstance(error, ConcurrentObjectUseError):
            return Closed("two greenlets use one direction of a stream")
        self._end(Failure.of(ended(getattr(error, "errno", None) or errno.EIO)))
        assert self._failure is not None
        return self._failure.build()
