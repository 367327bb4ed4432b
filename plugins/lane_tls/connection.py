"""One TLS connection: its socket, its handshake, its end, and whoever waits for it.

A clean end is close_notify (RFC 8446 section 6.1). It ends one direction and leaves the other open. A TCP
connection that ends without it was cut off by a broken network or an attacker. That is an error.
"""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from OpenSSL import SSL

from lane.errors import Closed, Failure, ProtocolError
from lane.net.failures import ended
from lane.net.sockets import plain
from lane_tls.records import Records
from lane_tls.words import reason

_WORTHWHILE = 4096  # bytes that a record lacks from which it is waited for as a whole
_LINGER = 15.0  # seconds after `close` in which both sides' close_notify may arrive
_LINGERING = 256  # the most sockets that wait for that
_LINGER_NOT = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds, so that close sends RST
_lingering = Pool(_LINGERING)


class TLSConnection:
    """A connection over `sock` (connected), which it takes over."""

    def __init__(self, context: SSL.Context, sock: Any, accepts: bool) -> None:
        self.sock = sock = plain(sock)
        self.dead = Event()
        """Set once the connection is lost or closed."""
        self._records = Records(context, sock, accepts)
        self._hub: Any = gevent.get_hub()
        self._readable = self._hub.loop.io(sock.fileno(), 1)
        self._writable = self._hub.loop.io(sock.fileno(), 2)
        self._on_heard: Callable[[], None] | None = None
        self._failure: Failure[Closed] | None = None
        self._released = False
        self._sending = False
        self._lingers = False  # closed, but the socket is still open
        self._ended = False  # the peer sent close_notify
        self._low = 1  # bytes that must have arrived before the kernel reports the socket as readable
        self._since = monotonic()  # when this connection last let the event loop run
        self.finished = False
        """Whether close_notify was sent."""

    @property
    def connection(self) -> Any:
        """OpenSSL's connection, to be set up before the handshake. None once it is of no more use."""
        return self._records.connection

    @property
    def resumed(self) -> bool:
        """Whether the handshake resumed an earlier session."""
        return self._records.resumed

    @property
    def broken(self) -> bool:
        """Whether the stream was closed here, or failed."""
        return self._failure is not None

    def arrive(self) -> None:
        """Wait for the peer's first byte or its end of data. Raises Closed."""
        self._check()
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._wait(self._readable)
        except OSError as error:
            raise self._fail(error) from None

    def handshake(self) -> None:
        """Do the handshake. Raises ProtocolError if TLS fails, Closed if the connection is lost.

        What it says last leaves with the first data: the client's Finished, the server's session tickets. On
        their own they would wake the peer once more. A client that may have no data calls `say_last`.
        """
        self._check()
        try:
            while not self._records.handshake():
                self._flush()
                self._wait(self._readable)
        except SSL.Error as error:
            self._fail(error)
            raise ProtocolError(reason(error)) from None
        except (Closed, OSError) as error:
            raise self._fail(error) from None

    def say_last(self, within: float) -> None:
        """Send what the handshake said last `within` seconds, unless data took it along before."""
        timer = self._hub.loop.timer(within)
        timer.start(self._say_last, timer)

    def release(self) -> None:
        """Free OpenSSL's connection: the handshake is done, and no session tickets are wanted."""
        self._records.release()

    def _say_last(self, timer: Any) -> None:
        timer.close()
        if not (self.broken or self._sending):
            try:
                self._records.flush()
            except OSError as error:
                self._fail(error)

    def when_heard(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when there may be data to read or the stream has ended. See `Rings`."""
        if self._records.holds or self._failure is not None:
            self._hub.loop.run_callback(callback)
        else:
            self._on_heard = callback
            self._wake_for_record()
            self._readable.start(self._ring)

    def _ring(self) -> None:
        callback, self._on_heard = self._on_heard, None
        if callback is not None:
            self._readable.stop()
            callback()

    def _flush(self) -> None:
        """Hand the encrypted data to the kernel; block for room. Raises Closed."""
        try:
            while not self._records.flush():
                self._note_full()
                self._wait(self._writable)
        except OSError as error:
            raise self._fail(error) from None

    def _note_full(self) -> None:
        """Note that the kernel has no room for data now."""

    def finish(self) -> None:
        """Send close_notify; reading goes on. Idempotent. Blocks as `sendall` does. Raises Closed."""
        if self.finished:
            return
        self._check()
        if self._sending:  # the peer does not have all data
            raise Closed("another sendall was not completed")
        self._notify()
        self._flush()

    def reset(self, code: int = 0) -> None:
        """Send RST (TLS has no field for `code`). Greenlets blocked on this stream get Closed."""
        if not self._released:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self._release(Closed("reset here"))

    def close(self) -> None:
        """End our direction and release the socket. The kernel delivers the rest. Never blocks.

        Unread input turns this into a reset. So does an incomplete `sendall`, since the peer lacks data then.
        The socket stays open until the peer has ended too, at most `_LINGER` seconds.
        """
        if self._lingers:
            return
        if self._released or self._failure is not None:
            self.abandon()
        elif self._sending or self._unread():
            self.reset()
        elif self._notify_now() and (self._ended or self._failure is not None):
            self.abandon()
        else:
            self._die(Closed("closed here"))
            if _lingering.full():
                self.abandon()
            else:
                self._lingers = True
                _lingering.spawn(self._linger)

    def abandon(self) -> None:
        """Release the socket without close_notify. The peer sees a connection that was cut off."""
        self._release(Closed("closed here"))

    def lost(self) -> bool:
        """Whether the connection is known to be lost. It checks the socket now, and never blocks.

        While nobody reads, it also processes session tickets and close_notify. The end of the connection may
        follow them.
        """
        if self._failure is not None:
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
            gone = self._ended or self._failure is not None
        if gone:
            self.dead.set()
        return gone

    def _unread(self) -> bool:
        """Whether unread data is there. It processes close_notify, session tickets and errors before it."""
        if self._ended:
            return False
        try:
            unread = self._records.unread()
        except (Closed, OSError) as error:
            self._fail(error)
            return False
        self._ended = not unread and self._records.ended
        return unread

    def _notify(self) -> None:
        """Write close_notify. The caller flushes it."""
        self.finished = True
        self._records.shutdown()

    def _notify_now(self) -> bool:
        """Send close_notify. False if the kernel has no room for it now."""
        try:
            if not self.finished:
                self._notify()
            return self._records.flush()
        except OSError as error:
            self._fail(error)
        return True  # the peer is gone, so nothing is left to send

    def _linger(self) -> None:
        """Deliver close_notify in the background, and receive the peer's.

        The kernel answers data for a closed socket with RST and drops its unsent data. To the kernel, the
        peer's close_notify is such data.
        """
        with gevent.Timeout(_LINGER, False), suppress(OSError, Closed):
            while not self._notify_now():
                self._hub.wait(self._writable)
            self.sock.shutdown(socket.SHUT_WR)
            while not self._records.unread():
                if self._records.ended:
                    raise Closed("closed by both sides")
                self._wake_for_record()
                self._hub.wait(self._readable)
            self.reset()  # data that nobody will read
        self.abandon()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure.build()

    def _wake_for_record(self) -> None:
        """Let the kernel report the socket as readable once the record under way is whole.

        On a slow line each packet would wake this process otherwise, and OpenSSL needs a whole record.
        """
        lacks = self._records.lacks
        low = lacks if lacks > _WORTHWHILE else 1
        if low != self._low:
            self._low = low
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low)

    def _may_wait(self, watcher: Any) -> None:
        if watcher.callback is not None:
            raise Closed("two greenlets use one direction of a stream")

    def _wait(self, watcher: Any) -> None:
        """Let other greenlets run until the socket is ready."""
        self._may_wait(watcher)
        self._hub.wait(watcher)  # no limit: the caller has one, and TCP keepalive notices a lost peer
        self._since = monotonic()
        if self._failure is not None:
            raise self._failure.build()

    def _fail(self, error: Exception) -> Closed:
        """End both directions because of `error`, wake the greenlets blocked on them, return the failure."""
        if self._failure is None:
            with suppress(OSError):
                self._records.flush()  # an alert, so that the peer learns why
            if isinstance(error, Closed):
                why = error
            else:
                why = (
                    ended(error.args[0])
                    if isinstance(error, OSError)
                    else Closed(f"TLS failed: {reason(error)}")
                )
            self._die(why)
        assert self._failure is not None
        return self._failure.build()

    def _die(self, why: Closed) -> None:
        """End both directions and wake the greenlets blocked on them. The socket stays open."""
        self._failure = Failure.of(why)
        self.dead.set()
        self._ring()
        for watcher in (self._readable, self._writable):
            self._hub.cancel_wait(watcher, self._failure.build())

    def _release(self, why: Closed) -> None:
        if not self._released:
            self._released = self.finished = True
            failure = self._failure = self._failure or Failure.of(why)
            self.dead.set()
            self._ring()
            self._records.release()
            # Close the descriptor when nobody waits on it: its number may be reused at once.
            self._hub.cancel_waits_close_and_then(
                (self._readable, self._writable), failure.build(), self.sock.close
            )
