"""TLS records between OpenSSL and a socket, many at once; only this file touches private names of pyOpenSSL.

`Connection.recv` on a socket asks the kernel twice for each record of 16 KB and copies the record out once
more; `Connection.send` asks once a record. Here the kernel fills one buffer and OpenSSL another, which all
connections of the process share, and what OpenSSL writes is collected: that takes a fifth off the cost of
receiving, and a tenth off that of sending. Nobody may switch greenlets between filling a shared buffer and
using it. What a connection keeps of its own is what has to stay: an incomplete record (OpenSSL has it),
records that nobody asked for yet, and what the kernel did not take. The canaries are in
tests/unit/lane_tls/test_openssl.py.
"""

import socket
from collections import OrderedDict
from typing import Any

from OpenSSL import SSL

from lane.tested import is_tested, lacking

_RECORD = 17408  # bytes of a record at most, and a little
LARGEST = 262144 + _RECORD
"""Bytes that one call returns at most: the kernel is asked for a record less."""
_PIECE = 131072
"""Bytes that are encrypted before the kernel gets them: some 0.1 ms of work."""
_LONG = 4096
"""Bytes of a write from which its memory is kept for the next one, or else given back."""
KEEPING = 16
"""Connections of the process that keep it, 180 KB each: those that wrote last."""

TESTED = ("26.4",)
"""Versions of pyOpenSSL that the tests have run with."""
CONNECTION, CONTEXT = ("_from_ssl", "_into_ssl", "_raise_ssl_error", "_ssl"), ("_context",)
"""What is private in pyOpenSSL's objects and used here; of its module it is OpenSSL itself."""
_lib: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]
_plain = _ffi.new("char[]", LARGEST)
_plain_view = memoryview(_ffi.buffer(_plain)).toreadonly()
_sealed = _ffi.new("char[]", LARGEST)
_sealed_view = memoryview(_ffi.buffer(_sealed))
_start = _ffi.new("char **")
_keeping: OrderedDict["Records", None] = OrderedDict()  # all they wrote was flushed


class Records:
    """One connection over `sock`, which must not block and stays the caller's."""

    def __init__(self, context: SSL.Context, sock: Any) -> None:
        self.connection: Any = SSL.Connection(context, None)
        self._sock = sock
        self._ssl = self.connection._ssl
        # OpenSSL owns these two. Whoever replaces one says it to OpenSSL, which frees the old one.
        self._in, self._out = self.connection._into_ssl, self.connection._from_ssl
        self._longest = 0  # bytes that `_out` held at most
        self._kept: Any = None  # the bytes of `_in`, where they are not in the shared buffer

    def handshake(self) -> bool:
        """Go on with it as far as can be had now; whether it is done. Raises OSError and SSL.Error.

        Whoever waits for the socket to be readable before the next call has flushed before.
        """
        while True:
            try:
                self.connection.do_handshake()
            except SSL.WantReadError:
                if not self.flush() or not self._fill(_RECORD):
                    return False
            else:
                self._keep()
                return True

    def read(self, limit: int) -> tuple[memoryview, Exception | None]:
        """Up to `limit` bytes (at most LARGEST), and what ended the reading: WantReadError, or worse.

        The bytes are in a shared buffer: they are gone with the next call for any connection. There may be
        more of them where nothing ended the reading. WantReadError comes without any; another error is to
        be kept even when there is data: it need not be reported twice.
        """
        limit = min(limit, LARGEST)
        size, error = 0, None
        while size < limit and error is None:
            result = _lib.SSL_read(self._ssl, _plain + size, limit - size)
            if result > 0:
                size += result
            elif _lib.SSL_get_error(self._ssl, result) != _lib.SSL_ERROR_WANT_READ:
                error = self._error(result)
            elif size:
                self._kept = None
                return _plain_view[:size], None
            else:
                try:
                    # An incomplete record comes on top of it, and what is too much has to be kept.
                    if not self._fill(max(limit - _RECORD, _RECORD)):
                        error = SSL.WantReadError()
                except (OSError, SSL.Error) as caught:
                    error = caught
        self._keep()
        return _plain_view[:size], error

    def unread(self) -> bool:
        """Whether there is anything to read; looks at the socket now. Raises OSError and SSL.Error."""
        while True:
            try:
                return bool(self.connection.recv(1, socket.MSG_PEEK))
            except SSL.WantReadError:
                if not self._fill(_RECORD):
                    return False
            finally:
                self._keep()

    @property
    def holds(self) -> bool:
        """Whether `read` may have something that came earlier: the socket need not become readable."""
        return self._kept is not None or self.connection.pending() > 0

    def write(self, data: memoryview) -> int:
        """Encrypt a piece of `data`: how many bytes. To be flushed before many more. Raises SSL.Error."""
        size = min(len(data), _PIECE)
        self.forget()
        with _ffi.from_buffer(data) as start:
            result: int = _lib.SSL_write(self._ssl, start, size)
        if result != size:
            raise self._error(result)
        return size

    def shutdown(self) -> None:
        """Write close_notify. Raises SSL.Error."""
        self.connection.shutdown()

    def flush(self) -> bool:
        """Hand what was written to the kernel; whether it took all. Raises OSError."""
        size = _lib.BIO_get_mem_data(self._out, _start)
        if size <= 0:
            return True
        self._longest = max(self._longest, size)
        try:
            sent: int = self._sock.send(_ffi.buffer(_start[0], size))
        except BlockingIOError:
            return False
        _lib.BIO_read(self._out, _sealed, sent)
        if sent == size and self._longest > _LONG:
            _keeping[self] = None
            if len(_keeping) > KEEPING:
                _keeping.popitem(last=False)[0]._shrink()
        return bool(sent == size)

    def forget(self) -> None:
        """Do not count as one that keeps memory: it is in use, or of no more use."""
        _keeping.pop(self, None)

    def settle(self) -> None:
        """Give back the memory of what the handshake wrote, if the kernel took all of that."""
        if _lib.BIO_get_mem_data(self._out, _start) <= 0:
            self._shrink()

    def _shrink(self) -> None:
        out = _lib.BIO_new(_lib.BIO_s_mem())
        _lib.SSL_set_bio(self._ssl, self._in, out)
        self._out = out
        self._longest = 0

    def _fill(self, size: int) -> bool:
        """Have OpenSSL read next what came, up to `size` bytes; False if nothing did.

        It must have read all there was, and has to read all of this, or `_keep`, before anybody else fills.
        """
        try:
            size = self._sock.recv_into(_sealed_view, size)
        except BlockingIOError:
            return False
        if not size:
            raise SSL.SysCallError(-1, "Unexpected EOF")
        self._feed(_sealed, size)
        self._kept = None
        return True

    def _keep(self) -> None:
        """Copy out of the shared buffer what OpenSSL did not read."""
        left = _lib.BIO_get_mem_data(self._in, _start)
        if left <= 0:
            self._kept = None
        elif self._kept is None:
            self._kept = _ffi.new("char[]", left)
            _ffi.memmove(self._kept, _start[0], left)
            self._feed(self._kept, left)

    def _feed(self, data: Any, size: int) -> None:
        bio = _lib.BIO_new_mem_buf(data, size)
        _lib.BIO_set_mem_eof_return(bio, -1)  # the end of this is not the end of all
        _lib.SSL_set_bio(self._ssl, bio, self._out)
        self._in = bio

    def _error(self, result: int) -> Exception:
        try:
            self.connection._raise_ssl_error(self._ssl, result)
        except SSL.Error as error:
            return error
        raise AssertionError("OpenSSL knows no error")


def is_supported() -> bool:
    """Whether the installed pyOpenSSL was tested, and has all names. If not, the log hears of it."""
    context = SSL.Context(SSL.TLS_METHOD)
    missing = lacking(SSL.Connection(context, None), CONNECTION) + lacking(context, CONTEXT)
    return is_tested("pyOpenSSL", TESTED, missing=missing, otherwise="TLS may not work")


def resumed(connection: Any) -> bool:
    """Whether the handshake of `connection` resumed an earlier session."""
    return bool(_lib.SSL_session_reused(connection._ssl))


def exchange_with(connection: Any, groups: bytes) -> None:
    """Offer only these `groups` for the key exchange (RFC 8446 section 4.2.7)."""
    _lib.SSL_set1_curves_list(connection._ssl, groups)


def write_whole(context: SSL.Context) -> None:
    """Have OpenSSL write all it is given, however many records that is."""
    _lib.SSL_CTX_clear_mode(context._context, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
