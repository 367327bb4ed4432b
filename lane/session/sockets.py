"""A TCP socket as a `lane.stream.Stream`.

The relay has a session on one side, and the socket of an application or a target on the other. As a stream,
the socket has the same half-close and reset as a session, so there is one relay for both sides. The plain-TCP
transport of the test kit uses it, too.

The kernel reports an error of a connection once, to the first caller. Later calls see an end of data. So this
module keeps the first error: a connection that broke under the writer must not look like a clean end to the
reader.
"""

import errno
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import gevent

from lane.errors import Closed, Failure, Suspended
from lane.net import hangups
from lane.net.failures import ended
from lane.net.sleeper import SHORT, sleep
from lane.net.sockets import end_on_close, plain, reset_on_close

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # Windows

    def _unacknowledged(descriptor: int) -> int:
        return 0

else:

    def _unacknowledged(descriptor: int) -> int:
        """Bytes that a socket has sent without an acknowledgement. Raises OSError or ValueError."""
        return int.from_bytes(ioctl(descriptor, TIOCOUTQ, bytes(4)), sys.byteorder)


BULK = 65536
"""Bytes that are asked for at once from which on the socket has a bulk transfer."""
ROOM = 1 << 19
"""Bytes that the kernel may then hold for the reader, at least."""
_RESET_HERE, _CLOSED_HERE, _CLOSED_THERE = (
    Failure.of(Closed(why)) for why in ("reset here", "closed here", "closed by the peer")
)


class SocketStream:
    """The stream of one connected socket, plain or of gevent, which it takes over. It has no buffer."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock = plain(sock)
        self._hub: Any = gevent.get_hub()
        self._readable = self._hub.loop.io(sock.fileno(), 1)
        self._writable = self._hub.loop.io(sock.fileno(), 2)
        self._take: Callable[[bytes], bool] | None = None  # for what is short: see `HandsShort`
        self._failure: Failure[Closed] | None = None
        self._finished = self._released = False
        self._sending = False
        self._lull = False  # the last read has probably emptied the socket
        self._roomy = False  # `_make_room` was called
        self._watched: int | None = None  # the descriptor
        self._suspended = False
        with suppress(OSError):  # closed already
            reset_on_close(sock)

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
        try:
            return _unacknowledged(self._sock.fileno())
        except (OSError, ValueError):  # closed
            return 0

    def recv(self, limit: int = 262144) -> bytes:
        """Block for 1 to `limit` bytes; b"" for the peer's FIN. Raises Reset or Closed."""
        if self._suspended or self._released:
            self._check()
        if limit >= BULK and not self._roomy:
            self._make_room()
        data = None if self._lull else self._read(limit)
        while data is None:
            if self._take is None:
                self._wait(self._readable)
                data = self._read(limit)
            else:
                self._may_wait(self._readable)
                data = sleep(self._readable, partial(self._look, limit))
        self._lull = len(data) < SHORT
        return data

    def _make_room(self) -> None:
        """Have the kernel hold as much as is read at once. It goes on to tune the size of the buffer.

        Its tuning adds room only if a round trip brings more than there was room for. Where many transfers
        take turns, one that reads little in its turn has room for no more until the next one, and stays so.
        """
        self._roomy = True
        with suppress(OSError, AttributeError):  # it is closed, or not on this system
            for size in (ROOM, 1):  # Linux makes room for what is to be waited for
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _read(self, limit: int) -> bytes | None:
        """What is there now, up to `limit` bytes, or the end; None if there is nothing yet."""
        try:
            data: bytes = self._sock.recv(limit)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._fail(error) from None
        if not data and self._failure is not None:
            raise self._failure.build()
        return data

    def _look(self, limit: int) -> bytes | None:
        """What the reader shall wake for, if that is there now. The event loop calls this."""
        self._check()
        data = self._read(limit)
        short = data and len(data) < SHORT and self._take is not None and self._take(data)
        return None if short else data

    def hand_short_to(self, take: Callable[[bytes], bool] | None) -> None:
        """See `lane.stream.HandsShort`."""
        self._take = take

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the kernel. Raises Reset or Closed."""
        if self._finished:
            raise self._failure.build() if self._failure else Closed("the stream is finished")
        if self._sending:
            raise Closed("another sendall was not completed")
        self._sending = True
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                try:
                    self._wait(self._writable)
                except Suspended:
                    self._sending = False
                    raise Suspended(view) from None
            except OSError as error:
                raise self._fail(error) from None
        self._sending = False  # not in a `finally`: after a deadline, only a reset is allowed

    def _check(self) -> None:
        """Raise the reason if the stream was released. The descriptor may still be open for a moment."""
        if self._suspended:
            raise Suspended
        if self._released and self._failure is not None:
            raise self._failure.build()

    def _may_wait(self, watcher: Any) -> None:
        """Raise the reason why nobody may wait for the socket."""
        if self._suspended or self._released:
            self._check()
        if watcher.callback is not None:
            raise Closed("two greenlets use one direction of a stream")

    def _wait(self, watcher: Any) -> None:
        """Let other greenlets run until the socket is ready."""
        self._may_wait(watcher)
        self._hub.wait(watcher)  # no limit: the caller has one, and TCP keepalive notices a lost peer

    def offer(self, data: bytes | bytearray | memoryview) -> int:
        """Pass to the kernel the bytes that it takes at once. Returns their number. Errors show later."""
        if self._finished or self._sending or self._failure is not None or self._suspended:
            return 0
        try:
            sent: int = self._sock.send(data)
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
        self._release(_RESET_HERE, reset_on_close)

    def close(self) -> None:
        """Release the socket with FIN. The kernel sends RST instead if there is unread input.

        After a blocked or interrupted `sendall` the data is not whole, so the socket is reset.
        """
        if self._sending:
            self.reset()
        else:
            self._release(_CLOSED_HERE, end_on_close)

    def suspend(self) -> None:
        """Wake blocked greenlets with Suspended, and let no more bytes be read. `freeze` comes next."""
        self._suspended = True
        for watcher in (self._readable, self._writable):
            self._hub.cancel_wait(watcher, Suspended())

    def freeze(self) -> tuple[dict[str, Any], int | None]:
        """What `thaw` needs, as a plain value, and the descriptor, which is the caller's now; None if closed.

        Call it after `suspend`, when no greenlet waits.
        """
        state = {"finished": self._finished, "failure": self._failure.freeze() if self._failure else None}
        if self._released:
            return state, None
        if self._watched is not None:
            hangups.forget(self._watched)
            self._watched = None
        self._released = True
        for watcher in (self._readable, self._writable):
            watcher.close()
        return state, self._sock.detach()

    @classmethod
    def thaw(cls, frozen: dict[str, Any], descriptor: int) -> "SocketStream":
        """A stream that goes on from there, with a descriptor of the same socket."""
        stream = cls(socket.socket(fileno=descriptor))
        stream._finished = frozen["finished"]
        stream._failure = Failure.thaw(frozen["failure"]) if frozen["failure"] else None
        return stream

    def lost(self) -> bool:
        """Whether a stream without a reader has lost its peer. It looks now, and never blocks."""
        if self._failure is None:
            try:
                if not self._sock.recv(1, socket.MSG_PEEK):
                    self._end(_CLOSED_THERE)
            except BlockingIOError:
                pass
            except OSError as error:
                self._fail(error)
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

    def _release(self, why: Failure[Closed], prepare: Callable[[Any], None]) -> None:
        if self._released:
            return
        self._end(why)
        self._finished = self._released = True
        if self._watched is not None:
            hangups.forget(self._watched)
            self._watched = None
        with suppress(OSError):  # closed already
            prepare(self._sock)
        assert self._failure is not None
        # The descriptor closes when nobody waits on it: its number may be reused at once.
        self._hub.cancel_waits_close_and_then(
            (self._readable, self._writable), self._failure.build(), self._sock.close
        )

    def _end(self, why: Failure[Closed]) -> None:
        """Keep `why` as the reason for the end, unless there is one already."""
        self._failure = self._failure or why

    def _fail(self, error: OSError) -> Closed:
        """Translate `error` for callers."""
        self._end(Failure.of(ended(error.errno or errno.EIO)))
        assert self._failure is not None
        return self._failure.build()
