"""One TLS connection as a stream.

OpenSSL reads and writes the socket's own descriptor: memory BIOs are as fast, but keep their buffers
after a burst. Greenlets switch only in `_wait` and `_cross`, never inside a call to OpenSSL, so that a
reader and a writer may share the connection object.

A clean end is close_notify (RFC 8446 section 6.1), which ends one direction and leaves the other. A TCP
connection that ends without it was cut short, by a broken network or an attacker, and is an error.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from OpenSSL import SSL

from lane.errors import Closed, ProtocolError, Reset
from lane_tls.openssl import read_records, write_records
from lane_tls.tcp import use
from lane_tls.words import reason

_WRITE = 131072  # bytes of one call to OpenSSL at most: some 0.1 ms of work
_BULK = 32768  # bytes of one `sendall` from which it is a part of something large
_TCP_CORK: int | None = getattr(socket, "TCP_CORK", None)
_QUANTUM = 0.0005  # seconds a greenlet may work before others have a turn
_LINGER = 15.0  # seconds that close_notify may wait for room in the kernel's buffer after a close
_LINGER_NOT = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds, so that close sends RST


class TLSStream:
    """The stream of `connection`, whose socket (gevent's, connected) it owns. Idle, it holds no buffer."""

    def __init__(self, connection: SSL.Connection, sock: Any) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.dead = Event()
        """Set once the connection is lost or closed."""
        self.congestion: bytes | None = None
        """What to ask the kernel for once there is bulk to send: see `lane_tls.tcp`."""
        self.on_data: Callable[[], None] | None = None
        """Called once, with the first data: the peer's session tickets have come before it."""
        self._connection = connection
        self._hub: Any = gevent.get_hub()
        self._readable = self._hub.loop.io(sock.fileno(), 1)
        self._writable = self._hub.loop.io(sock.fileno(), 2)
        self._error: Closed | None = None
        self._released = False
        self._sending = False
        self._ended = False  # the peer sent close_notify
        self._since = monotonic()  # when the event loop last had a turn because of this stream
        self.finished = False
        """Whether we sent close_notify."""

    @property
    def broken(self) -> bool:
        """Whether the stream was closed here, or failed."""
        return self._error is not None

    def handshake(self) -> None:
        """Raises ProtocolError for a peer that does not do TLS as we do, Closed for one that went away."""
        self._check()
        while True:
            try:
                self._connection.do_handshake()
            except SSL.WantReadError:
                self._wait(self._readable)
            except SSL.WantWriteError:
                self._wait(self._writable)
            except SSL.SysCallError as error:
                raise self._fail(error) from None
            except SSL.Error as error:
                self._fail(error)
                raise ProtocolError(reason(error)) from None
            else:
                return

    def recv(self, limit: int = 262144) -> bytes:
        """Block for 1 to `limit` bytes; b"" for close_notify. Raises Reset or Closed."""
        return bytes(self.recv_view(limit))

    def recv_view(self, limit: int = 262144) -> memoryview:
        """See `lane.stream.Views`."""
        self._check()
        quantum_used = monotonic() - self._since > _QUANTUM
        if quantum_used and not self._ended and not self._connection.pending():
            self._wait(self._readable)  # OpenSSL needs the socket for anything more: an honest wait
        while not self._ended:
            data, error = read_records(self._connection, limit)
            match error:
                case None | SSL.WantReadError() | SSL.WantWriteError() if data:
                    pass
                case SSL.WantReadError():
                    self._wait(self._readable)
                case SSL.WantWriteError():
                    self._cross()
                case SSL.ZeroReturnError():
                    self._ended = True
                case SSL.Error():
                    failure = self._fail(error)
                    if not data:
                        raise failure
            if data:
                if self.on_data is not None:
                    self.on_data()
                    self.on_data = None
                return data
        return memoryview(b"")

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt all of `data` and hand it to the kernel. Raises Reset or Closed."""
        self._check()
        if self.finished or self._sending:
            raise Closed("the stream is finished" if self.finished else "another sendall was not completed")
        self._sending = True
        view = memoryview(data).cast("B")
        left = len(view)
        corked = left > _BULK and self._begin_bulk()
        while left:
            if monotonic() - self._since > _QUANTUM:
                self._wait(self._writable)
            try:
                sent = write_records(self._connection, view if left <= _WRITE else view[:_WRITE])
                left -= sent
                view = view[sent:]
            except SSL.WantWriteError:
                self._wait(self._writable)
            except SSL.WantReadError:
                self._cross()
            except SSL.Error as error:
                raise self._fail(error) from None
        if corked:
            self._cork(0)
        self._sending = False  # not in a `finally`: what a deadline has cut stays cut

    def _begin_bulk(self) -> bool:
        """Many records follow; whether they are held together until `_cork(0)`."""
        if self.congestion:
            use(self.sock, self.congestion)
            self.congestion = None
        return self._cork(1)

    def _cork(self, on: int) -> bool:
        """Have the kernel send records together and not one by one: fewer packets, fewer wake-ups."""
        if _TCP_CORK is None:
            return False
        with suppress(OSError):  # the connection is lost: whoever writes to it learns it
            self.sock.setsockopt(socket.IPPROTO_TCP, _TCP_CORK, on)
        return True

    def finish(self) -> None:
        """Send close_notify; reading goes on. Idempotent. Blocks as `sendall` does. Raises Closed."""
        if self.finished:
            return
        self._check()
        self.finished = True
        while not self._notify():
            self._wait(self._writable)

    def reset(self, code: int = 0) -> None:
        """Send RST (TLS has no room for a code) and wake whoever is blocked here with Closed."""
        if not self._released:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self._release(Closed("reset here"))

    def close(self) -> None:
        """End our direction and release the socket; the kernel delivers the rest. Never blocks.

        Input that nobody read turns it into a reset, and so does a `sendall` that was not completed: what
        the peer has then is not all.
        """
        if self._released or self._error is not None:
            self.abandon()
        elif self._sending or self._unread():
            self.reset()
        elif self.finished or self._notify_now():
            self.abandon()
        else:
            self._die(Closed("closed here"))
            gevent.spawn(self._linger)

    def abandon(self) -> None:
        """Release the socket without a word of TLS: the peer sees a connection cut short."""
        self._release(Closed("closed here"))

    def lost(self) -> bool:
        """Whether the peer is known to be gone; looks at the socket now, never blocks.

        While nobody reads, it also looks behind what OpenSSL has to read for itself (session tickets, a
        close_notify): the end of the connection may stand there.
        """
        if self._error is not None:
            return True
        try:
            gone = not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError as error:
            self._fail(error)
            return True
        if not gone and self._readable.callback is None:
            self._unread()
            gone = self._ended or self._error is not None
        if gone:
            self.dead.set()
        return gone

    def _unread(self) -> bool:
        """Whether input is waiting; takes in an end, an error or session tickets on the way."""
        if self._ended:
            return False
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK))
        except SSL.ZeroReturnError:
            self._ended = True
        except (SSL.WantReadError, SSL.WantWriteError):
            pass
        except SSL.Error as error:
            self._fail(error)
        return False

    def _notify(self) -> bool:
        """Send close_notify; False if there is no room for it now. Raises Closed."""
        try:
            self._connection.shutdown()
        except SSL.WantWriteError:
            return False
        except SSL.Error as error:
            raise self._fail(error) from None
        return True

    def _notify_now(self) -> bool:
        self.finished = True
        try:
            return self._notify()
        except Closed:
            return True  # nobody is there to be told

    def _linger(self) -> None:
        """Deliver close_notify in the background, behind what the kernel still has to send."""
        with gevent.Timeout(_LINGER, False):
            while not self._released and not self._notify_now():
                self._hub.wait(self._writable)
        self.abandon()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _wait(self, watcher: Any) -> None:
        """Let others run until the socket is ready."""
        if watcher.callback is not None:
            raise Closed("two greenlets use one direction of a stream")
        self._hub.wait(watcher)
        self._since = monotonic()
        self._check()

    def _cross(self) -> None:
        """Wait where a reader must write or a writer must read, which only a key update brings about.

        What it needs may be done by the greenlet of the other direction, and the socket would then never
        become ready for this one. OpenSSL asks for no key update itself: looking again is good enough.
        """
        gevent.sleep(0.01)
        self._check()

    def _fail(self, error: Exception) -> Closed:
        """Keep what `error` means as the end of both directions, and wake who is blocked in the other."""
        if self._error is None:
            number = error.args[0] if isinstance(error, OSError | SSL.SysCallError) else None
            if number is None:
                self._error = Closed(f"TLS failed: {reason(error)}")
            elif number == -1:
                self._error = Closed("the connection was cut short")
            elif number in (errno.ECONNRESET, errno.EPIPE):
                self._error = Reset()
            else:
                self._error = Closed(os.strerror(number))
            self._die(self._error)
        return self._error

    def _die(self, why: Closed) -> None:
        """End both directions and wake who is blocked in them; the socket stays open."""
        self._error = why
        self.dead.set()
        for watcher in (self._readable, self._writable):
            self._hub.cancel_wait(watcher, why)

    def _release(self, why: Closed) -> None:
        if not self._released:
            self._released = self.finished = True
            self._error = self._error or why
            self.dead.set()
            # OpenSSL resumes no session of a connection that it thinks was cut short.
            self._connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
            # The descriptor stays open until nobody waits for it: its number may be used again at once.
            self._hub.cancel_waits_close_and_then(
                (self._readable, self._writable), self._error, self.sock.close
            )


@contextmanager
def deadline(seconds: float, late: Exception) -> Iterator[None]:
    """Raise `late` once `seconds` have passed; a deadline of the caller's passes through as it is."""
    timeout = gevent.Timeout(seconds)
    try:
        with timeout:
            yield
    except gevent.Timeout as expired:
        if expired is not timeout:
            raise
        raise late from None
