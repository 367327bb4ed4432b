"""The records of one TLS connection over a socket, many at once (RFC 8446).

OpenSSL does the handshake, by pyOpenSSL. From there on lane seals and opens the records itself, with the
traffic secrets that OpenSSL tells it: see `lane_tls.protection`. The kernel fills one buffer and the records'
data another one. All connections of the process share both, and few more for what they send. So these stay
in the processor's cache, and an idle connection has none. No greenlet may switch between filling a shared
buffer and using it. A connection keeps only what it must: an incomplete record, data that were not requested
yet, and records that the kernel did not accept.

OpenSSL's connection is freed when it is of no more use: at the server after the handshake, at the client once
the server's session tickets are there.
"""

from contextlib import suppress
from typing import Any

from OpenSSL import SSL

from lane.errors import Closed, Failure
from lane_tls.openssl import left, logged, resumed, secret
from lane_tls.protection import (
    ALERT,
    BAD_RECORD_MAC,
    DATA,
    FULL,
    HANDSHAKE,
    HEADER,
    MOST_SEALED,
    OVERHEAD,
    RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE,
    WHOLE,
    Protection,
    next_secret,
)

LARGEST = 262144
"""The most bytes that one call reads."""
_PIECE = 131072
"""Bytes that are sealed before they are handed to the kernel: about 0.1 ms of work."""
_SHORT = 4096  # bytes up to which what came may be one record, which needs no shared buffer
_LITTLE = 16384
"""Bytes of records that are copied, so that they do not keep a whole buffer."""
_ROOM = _LITTLE + _PIECE + (_PIECE // FULL + 3) * OVERHEAD
_KEPT = 4  # buffers for records that leave: all connections share them
_MOST_ASIDE = 32  # records in a row that are no data
_WEAR = 1 << 24
"""Records that are sealed with one key (RFC 8446 section 5.5: 2^24.5 with AES-GCM)."""
_FATAL, _CLOSE_NOTIFY, _USER_CANCELED = 2, 0, 90
_TICKET = b"\x04"  # NewSessionTicket: the first byte (section 4.6.1)
_KEY_UPDATE = b"\x18\0\0\1"  # and whether the other side shall update its keys too (section 4.6.3)
_ALERTS = {
    UNEXPECTED_MESSAGE: "unexpected message",
    BAD_RECORD_MAC: "bad record mac",
    RECORD_OVERFLOW: "record overflow",
}
_SECRETS = b"CLIENT_TRAFFIC_SECRET_0 ", b"SERVER_TRAFFIC_SECRET_0 "

_sealed = memoryview(bytearray(LARGEST + MOST_SEALED + FULL))
_plain = memoryview(bytearray(LARGEST + MOST_SEALED))
_nothing = memoryview(b"")
_buffers: list[memoryview] = []


class Records:
    """The records of one connection over `sock`. The socket must be non-blocking. The caller owns it."""

    def __init__(self, context: SSL.Context, sock: Any, accepts: bool) -> None:
        self.connection: Any = SSL.Connection(context, None)
        """OpenSSL's, until it is released."""
        (self.connection.set_accept_state if accepts else self.connection.set_connect_state)()
        self._told: list[bytes] = []  # by OpenSSL, of its secrets
        self._accepts = accepts
        self._sock = sock
        self._waits = accepts  # the handshake goes on with what the peer says next
        self._suite = ""
        self._mine = self._theirs = b""  # the traffic secrets
        self._seal: Protection
        self._open: Protection
        self._unsent: bytes | memoryview = b""  # records that the kernel did not accept
        self._buffer: memoryview | None = None  # what they are in, unless they are few
        self._rest = b""  # records that were not opened
        self._spare = b""  # data that were not requested
        self.lacks = 0
        """Bytes that the record under way lacks, or what `lane_tls.protection.Opened` says of them."""
        self.ended = False
        """Whether the peer's close_notify was read."""
        self.resumed = False
        """Whether the handshake resumed an earlier session."""
        self._error: Failure[Closed] | None = None  # what ended the reading, behind the last data
        self._follows = not accepts  # whether OpenSSL was given all records so far
        self._aside = 0  # the last records in a row that were no data
        self._wear = 0  # records that were sealed with this key
        self._updates = False  # whether the next write begins with new keys

    # --- the handshake

    def handshake(self) -> bool:
        """Continue the handshake as far as possible now. Return whether it is done.

        The caller must flush before it waits for the socket. Raises Closed, OSError and SSL.Error.
        """
        while not self._waits or self._feed():
            self._waits = True
            try:
                self._shake()
            except SSL.WantReadError:
                self._take_output()
                if not self.flush():
                    return False
            except SSL.Error:
                self._take_output()  # an alert
                raise
            else:
                self._begin(self._take_output())
                return True
        return False

    def _shake(self) -> None:
        try:
            self.connection.do_handshake()
        finally:
            self._told += logged()  # before another connection logs anything

    def _feed(self) -> bool:
        try:
            data = self._sock.recv(FULL)
        except BlockingIOError:
            return False
        if not data:
            raise Closed("the connection was cut short")
        self.connection.bio_write(data)
        return True

    def _take_output(self) -> bytes:
        pieces = []
        with suppress(SSL.WantReadError):
            while len(piece := self.connection.bio_read(FULL)) == FULL:
                pieces.append(piece)
            pieces.append(piece)
        output = b"".join(pieces)
        self._unsent = bytes(self._unsent) + output
        return output

    def _begin(self, last: bytes) -> None:
        """Go on without OpenSSL. `last` is what it said last: at a server session tickets, already with the
        keys of data."""
        self._suite, self.resumed = self.connection.get_cipher_name(), resumed(self.connection)
        secrets = [secret(self._told, label) for label in _SECRETS]
        self._told.clear()
        self._theirs, self._mine = secrets if self._accepts else secrets[::-1]
        self._seal = Protection(self._suite, self._mine, _count(last) if self._accepts else 0)
        self._open = Protection(self._suite, self._theirs, 0)
        self._rest = left(self.connection)
        self.lacks = WHOLE if self._rest else 0
        if self._accepts:
            self.release()

    def release(self) -> None:
        """Free OpenSSL's connection. Its session remains good for others."""
        if self.connection is not None:
            # OpenSSL resumes no session of a connection that ended without close_notify.
            self.connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
            self.connection = None

    # --- reading

    def read(self, limit: int) -> bytes | memoryview:
        """Up to `limit` bytes of data (at most LARGEST). None now, or none anymore (see `ended`): b"".

        The bytes are in a shared buffer, which the next call for any connection overwrites. Raises Closed and
        OSError, after the data before the failure.
        """
        return self._read(min(limit, LARGEST), _sealed, _plain)

    def _read(self, limit: int, sealed: memoryview, plain: memoryview) -> bytes | memoryview:
        if self._spare:
            piece, self._spare = self._spare[:limit], self._spare[limit:]
            return piece
        if self._error is not None:
            raise self._error.build()
        if self.ended:
            return _nothing
        stop = len(self._rest)
        if stop:
            sealed[:stop] = self._rest
        if self.lacks != WHOLE:
            try:
                size = self._sock.recv_into(sealed[stop:], max(limit - stop, FULL))
            except BlockingIOError:
                return _nothing
            if not size:
                raise Closed("the connection was cut short")
            stop += size
            if HEADER < stop <= _SHORT and stop <= limit:
                data = self._open.open_short(bytes(sealed[:stop]))
                if data is not None:  # as nearly always
                    self._aside, self._follows, self._rest, self.lacks = 0, False, b"", 0
                    return data
        made = self._open_all(sealed[:stop], plain, limit)
        if not made:
            if self._error is not None:
                raise self._error.build()
            return _nothing
        self._aside, self._follows = 0, False
        if made > limit:
            self._spare = bytes(plain[limit:made])
            made = limit
        return plain[:made].toreadonly()

    def _open_all(self, sealed: memoryview, plain: memoryview, limit: int) -> int:
        """Open the records in `sealed`, and keep what is left. Return the bytes of data in `plain`."""
        begin = 0
        start, made, kind, other, lacks = self._open.open(sealed, 0, plain, 0, limit)
        while kind != DATA:  # seldom
            content, following = plain[made : made + other], self._follows and not made
            try:
                self._set_aside(kind, bytes(content), sealed[begin:start] if following else None)
            except Closed as error:
                self._error = Failure.of(error)
            if self.ended or self._error is not None:
                start, lacks = len(sealed), 0
                break
            begin = start
            start, made, kind, other, lacks = self._open.open(sealed, start, plain, made, limit)
        self._rest = bytes(sealed[start:]) if start < len(sealed) else b""
        self.lacks = lacks
        return made

    def _set_aside(self, kind: int, content: bytes, sealed: memoryview | None) -> None:
        """Take a record that is no data. `sealed`: it is the next one for OpenSSL. Raises Closed."""
        self._aside += 1
        told = content[1] if kind == ALERT and len(content) == 2 else None
        taken = told is not None or (kind == HANDSHAKE and self._is_taken(content))
        if told == _CLOSE_NOTIFY:
            self.ended = True
        elif told is not None and told != _USER_CANCELED:
            raise Closed(f"TLS failed: the peer sent alert {told}")
        elif not taken or self._aside > _MOST_ASIDE:
            alert = -kind if kind < 0 else UNEXPECTED_MESSAGE
            self._say(ALERT, bytes((_FATAL, alert)))
            raise Closed(f"TLS failed: {_ALERTS[alert]}")
        elif content[:1] == _TICKET and sealed is not None and self.connection is not None:
            self.connection.bio_write(bytes(sealed))
            with suppress(SSL.Error):  # that it wants to read more: it has no data
                self.connection.recv(1)

    def _is_taken(self, message: bytes) -> bool:
        """Update keys if this is a KeyUpdate. False for messages that are out of place (section 4.6)."""
        if message not in (_KEY_UPDATE + b"\0", _KEY_UPDATE + b"\1"):
            return message[:1] == _TICKET and not self._accepts
        self._theirs = next_secret(self._suite, self._theirs)
        self._open = Protection(self._suite, self._theirs, 0)
        self._updates = self._updates or message[-1] == 1
        self._follows = False
        return True

    @property
    def holds(self) -> bool:
        """Whether `read` has earlier data or the end, although the socket may not be readable."""
        return bool(self._spare) or self.lacks == WHOLE or self.ended or self._error is not None

    def unread(self) -> bool:
        """Whether there is data to read. It checks the socket now. Raises Closed and OSError."""
        if not self._spare:
            # A finalizer may close a connection while another one reads, and uses the shared buffers.
            sealed, plain = (
                memoryview(bytearray(size)) for size in (2 * FULL + MOST_SEALED, FULL + MOST_SEALED)
            )
            self._spare = bytes(self._read(FULL, sealed, plain))
        return bool(self._spare)

    # --- writing

    def write(self, head: bytes, data: memoryview) -> int:
        """Seal `head` and the start of `data`, hand the records to the kernel, return the bytes of `data`.

        What was written before must be flushed, except what the handshake said last. The caller must flush
        before it writes more. Raises OSError.
        """
        size = min(len(data), _PIECE - len(head))
        if self._updates or self._wear > _WEAR:
            self._update()
        buffer, at = _buffers.pop() if _buffers else memoryview(bytearray(_ROOM)), len(self._unsent)
        if at:
            buffer[:at] = self._unsent
            self._unsent = b""
        stop = self._seal.seal(buffer, at, DATA, head, data[:size])
        self._wear += 1 + size // FULL
        try:
            sent = self._sock.send(buffer[:stop])
        except BlockingIOError:
            sent = 0
        if stop - sent > _LITTLE:
            self._buffer, self._unsent = buffer, buffer[sent:stop]
        else:
            if sent < stop:
                self._unsent = bytes(buffer[sent:stop])
            _buffers.append(buffer)
        return size

    def write_at_once(self, data: bytes) -> bool:
        """Write `data` (less than _PIECE bytes), as `write` does, and `flush`."""
        if len(data) >= FULL or self._unsent or self._updates or self._wear > _WEAR:
            self.write(b"", memoryview(data))
            return self.flush()
        self._unsent = self._seal.seal_short(data)
        self._wear += 1
        return self.flush()

    def flush(self) -> bool:
        """Hand to the kernel what it did not accept. Return whether it has all now. Raises OSError."""
        if not self._unsent:
            return True
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return False
        if self._unsent:
            return False
        if self._buffer is not None and len(_buffers) < _KEPT:
            _buffers.append(self._buffer)
        self._buffer = None
        return True

    def shutdown(self) -> None:
        """Write close_notify. The caller must flush."""
        self._say(ALERT, bytes((1, _CLOSE_NOTIFY)))

    def _say(self, kind: int, content: bytes) -> None:
        """Write a short record that is no data. The caller must flush."""
        if not self._suite:
            return  # in the handshake only OpenSSL speaks
        out = bytearray(len(content) + OVERHEAD)
        self._seal.seal(memoryview(out), 0, kind, content, _nothing)
        self._unsent = bytes(self._unsent) + out

    def _update(self, asks: bytes = b"\0") -> None:
        """Go on with new keys, and have the peer do so too if `asks` is b"\\1"."""
        self._say(HANDSHAKE, _KEY_UPDATE + asks)
        self._mine = next_secret(self._suite, self._mine)
        self._seal = Protection(self._suite, self._mine, 0)
        self._updates, self._wear = False, 0


def _count(records: bytes) -> int:
    """How many records these are."""
    at = count = 0
    while at < len(records):
        at += 5 + int.from_bytes(records[at + 3 : at + 5], "big")
        count += 1
    return count
