"""The data of one TLS connection, as a stream.

An idle stream holds no record buffers: see `lane_tls.records`. Greenlets switch only in `_wait`, never
inside a call to it. So a reader and a writer can share the records.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

from OpenSSL import SSL

from lane.errors import Closed
from lane.net.sleeper import SHORT, sleep
from lane_tls import fair_rates
from lane_tls.connection import TLSConnection
from lane_tls.tcp import use

with suppress(ImportError):  # Windows has none
    from fcntl import ioctl

_FULL = 16384  # bytes in a full record (RFC 8446 section 5.1)
_NOTHING = memoryview(b"")
_BULK = 32768  # bytes of one `sendall` from which it counts as a bulk transfer
_QUANTUM = 0.0005  # seconds that a greenlet may run before others have their turn
_SIOCOUTQNSD = 0x894B  # linux/sockios.h: bytes that were not sent at all yet


class TLSStream(TLSConnection):
    """A stream over `sock` (connected), which it takes over. While idle it holds no buffer."""

    def __init__(self, context: SSL.Context, sock: Any, accepts: bool) -> None:
        super().__init__(context, sock, accepts)
        self.congestion: bytes | None = None
        """The congestion control to set once there is a bulk transfer: see `lane_tls.tcp`."""
        self.on_data: Callable[[], None] | None = None
        """Called once, with the first data. The peer's session tickets have arrived by then."""
        self._take: Callable[[bytes | memoryview], bool] | None = None  # for what is short: see `HandsShort`
        self._lull = False  # the last read has probably emptied the socket
        self._busy_since = self._sent_at = self._since  # start of a run of `sendall`s; end of the last one
        self.shared = False
        """Whether `fair_rates` looks after it."""
        self.cap = self.share = fair_rates.UNLIMITED
        """Bytes a second to which `fair_rates` and the server hold it."""
        self.user = ""
        """The user of a server whose stream it is."""
        self._blocked = False  # the kernel had no room since the last `was_blocked`

    @property
    def has_more(self) -> bool:
        """Whether data wait for room in the kernel, or a record or more there to be sent (Linux)."""
        if self._writable.callback is not None:
            return True
        try:
            unsent = ioctl(self.sock.fileno(), _SIOCOUTQNSD, bytes(4))
        except (NameError, OSError, ValueError):  # elsewhere, or closed
            return False
        return int.from_bytes(unsent, sys.byteorder) >= _FULL

    def recv(self, limit: int = 262144) -> bytes:
        """Block for 1 to `limit` bytes; b"" for close_notify. Raises Reset or Closed."""
        return bytes(self.recv_view(limit))

    def recv_view(self, limit: int = 262144) -> bytes | memoryview:
        """See `lane.stream.Views`."""
        if self._failure is not None:
            raise self._failure.build()
        records = self._records
        data: bytes | memoryview | None = None
        if (self._lull or monotonic() - self._since > _QUANTUM) and not (self._ended or records.holds):
            data = self._await_data(limit)  # there is probably nothing, or others have waited for long
        while data is None and (data := self._read(limit)) is None:
            data = self._await_data(limit)
        self._lull = len(data) < SHORT
        return data

    def _read(self, limit: int) -> bytes | memoryview | None:
        """What is there now, up to `limit` bytes; nothing at the end; None if there is nothing yet."""
        if self._ended:
            return _NOTHING
        try:
            data = self._records.read(limit)
        except (Closed, OSError) as error:
            raise self._fail(error) from None
        if data:
            if self.on_data is not None:
                self.on_data()
                self.on_data = None
                self.release()
            return data
        self._ended = self._records.ended
        return data if self._ended else None

    def _look(self, limit: int) -> bytes | memoryview | None:
        """What the reader shall wake for, if that is there now. The event loop calls this."""
        self._check()
        data = self._read(limit)
        short = data and len(data) < SHORT and not self._records.holds
        if data is None or (short and self._take is not None and self._take(data)):
            self._wake_for_record()
            return None
        return data

    def hand_short_to(self, take: Callable[[bytes | memoryview], bool] | None) -> None:
        """See `lane.stream.HandsShort`."""
        self._take = take

    def _await_data(self, limit: int) -> bytes | memoryview | None:
        """Wait for the socket. Returns what has come, unless the caller shall read it."""
        self._wake_for_record()
        if self._take is None:
            self._wait(self._readable)
            return None
        self._may_wait(self._readable)
        data: bytes | memoryview = sleep(self._readable, partial(self._look, limit))
        self._since = monotonic()
        return data

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt all of `data` and hand it to the kernel. Raises Reset or Closed."""
        self._send(memoryview(data).cast("B"))

    def send_joined(self, head: bytes, data: bytes | bytearray | memoryview) -> None:
        """See `lane.stream.Joins`."""
        if len(head) > _FULL:  # more than the first record has room for
            self._send(memoryview(head))
            head = b""
        self._send(memoryview(data).cast("B"), head)

    def send_now(self, data: bytes) -> bool:
        """See `lane.stream.SendsNow`."""
        self._check()
        if self.finished or self._sending:
            raise Closed("the stream is finished" if self.finished else "another sendall was not completed")
        try:
            return self._records.write_at_once(data)
        except OSError as error:
            raise self._fail(error) from None

    def _send(self, view: memoryview, head: bytes = b"") -> None:
        """Seal `head` (up to 16 KB) and `view`, and hand them to the kernel in as few writes as possible."""
        if self._failure is not None:
            raise self._failure.build()
        if self.finished or self._sending:
            raise Closed("the stream is finished" if self.finished else "another sendall was not completed")
        self._sending = True
        now = monotonic()
        if now - self._sent_at > _QUANTUM:  # other greenlets have run since the last `sendall`
            self._busy_since = now
        if self.congestion and len(view) > _BULK:
            use(self.sock, self.congestion)
            self.congestion = None
        try:
            if not (head or view):  # what `send_now` left
                self._flush()
            while head or view:
                if monotonic() - max(self._since, self._busy_since) > _QUANTUM:
                    self._wait(self._writable)
                view = view[self._records.write(head, view) :]
                head = b""
                self._flush()
        except OSError as error:
            raise self._fail(error) from None
        self._sending = False  # not in a `finally`: after an interruption it stays set
        self._sent_at = monotonic()

    def _note_full(self) -> None:
        self._blocked = True
        if not self.shared:
            self.shared = True
            fair_rates.enter(self)

    def was_blocked(self) -> bool:
        """Whether the kernel had no room for data since the last call."""
        blocked, self._blocked = self._blocked, self._writable.callback is not None
        return blocked
