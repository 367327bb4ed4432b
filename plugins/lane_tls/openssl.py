"""TLS records between OpenSSL and a socket, many at once. Only this file uses private names of pyOpenSSL.

`Connection.recv` on a socket makes two system calls for each record of 16 KB and one more copy of it.
`Connection.send` makes one call for each record. Here the kernel fills one buffer and OpenSSL another. All
connections of the process share both. OpenSSL's output is collected before it is sent. Receiving takes a
fifth less CPU time, and sending a tenth less. No greenlet may switch between filling a shared buffer and
using it. A connection keeps only what it must: an incomplete record (in OpenSSL), records that were not
requested yet, and data that the kernel did not accept. tests/unit/lane_tls/test_openssl.py fails if a
private name changes.
"""

from collections import OrderedDict
from typing import Any

from OpenSSL import SSL

from lane.tested import is_tested, lacking

_HEADER = 5  # bytes before each record: its type, version and length
_RECORD = 17408  # bytes of the longest record, rounded up
LARGEST = 262144 + _RECORD
"""The most bytes that one call returns. The kernel is asked for one record less."""
_PIECE = 131072
"""Bytes that are encrypted before they are handed to the kernel: about 0.1 ms of work."""
_LONG = 4096
"""Bytes of a write from which its buffer is kept for the next one. Smaller buffers are freed."""
KEEPING = 32
"""The most connections of the process that keep a buffer (180 KB each): those that wrote last. With more
transfers at once, each write makes its buffer anew, which costs a server a tenth of its CPU time."""

TESTED = ("26.4",)
"""Versions of pyOpenSSL that lane was tested with."""
CONNECTION = ("_from_ssl", "_into_ssl", "_raise_ssl_error", "_ssl")
"""Private names of pyOpenSSL's connections that are used here."""
CONTEXT = ("_context",)
"""Private names of pyOpenSSL's contexts that are used here."""
_lib: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]
_plain = _ffi.new("char[]", LARGEST)
_plain_view = memoryview(_ffi.buffer(_plain)).toreadonly()
_sealed = _ffi.new("char[]", LARGEST)
_sealed_view = memoryview(_ffi.buffer(_sealed))
_start = _ffi.new("char **")
_keeping: OrderedDict["Records", None] = OrderedDict()  # their output is flushed


class Records:
    """The records of one connection over `sock`. The socket must be non-blocking. The caller owns it."""

    def __init__(self, context: SSL.Context, sock: Any) -> None:
        self.connection: Any = SSL.Connection(context, None)
        self._sock = sock
        self._ssl = self.connection._ssl
        # OpenSSL owns these two. A replacement must be passed to OpenSSL, which frees the old one.
        self._in, self._out = self.connection._into_ssl, self.connection._from_ssl
        self._longest = 0  # the most bytes that `_out` has held
        self._kept: Any = None  # the bytes of `_in`, unless they are in the shared buffer
        self.lacks = 0
        """Bytes that the record under way still lacks; 0 between two records, or if the length is unknown."""
        self._head = b""  # of a record whose length is not known yet
        self.drained = False
        """Whether OpenSSL has said that it needs more bytes from the socket. If not, nobody has asked it."""

    def handshake(self) -> bool:
        """Continue the handshake as far as possible now. Return whether it is done.

        The caller must flush before it waits for the socket. Raises OSError and SSL.Error.
        """
        while (result := _lib.SSL_do_handshake(self._ssl)) != 1:
            if _lib.SSL_get_error(self._ssl, result) != _lib.SSL_ERROR_WANT_READ:
                raise self._error(result)
            if not self.flush() or not self._fill(_RECORD):
                return False
        self._keep()
        return True

    def read(self, limit: int) -> tuple[memoryview, Exception | None]:
        """Read up to `limit` bytes (at most LARGEST). Return them, and the error that ended reading, if any.

        The bytes are in a shared buffer, which the next call for any connection overwrites. Without an error
        there may be more bytes. WantReadError comes without bytes. Any other error may come with bytes. The
        caller must remember it, since it may not be reported again.
        """
        limit = min(limit, LARGEST)
        size, error = 0, None  # type: int, Exception | None
        while size < limit and error is None:
            if self.drained:
                if size:
                    self._kept = None
                    return _plain_view[:size], None
                try:
                    # An incomplete record may add to these bytes, and excess bytes must be kept.
                    if not self._fill(max(limit - _RECORD, _RECORD)):
                        error = SSL.WantReadError()
                        break
                except (OSError, SSL.Error) as caught:
                    error = caught.with_traceback(None)  # which has this frame, that has the error
                    break
            result = _lib.SSL_read(self._ssl, _plain + size, limit - size)
            if result > 0:
                size += result
            elif _lib.SSL_get_error(self._ssl, result) == _lib.SSL_ERROR_WANT_READ:
                self.drained = True
            else:
                error = self._error(result)
        self._keep()
        return _plain_view[:size], error

    def unread(self) -> bool:
        """Whether there is data to read. It checks the socket now. Raises OSError and SSL.Error."""
        try:
            while (result := _lib.SSL_peek(self._ssl, _plain, 1)) <= 0:
                if _lib.SSL_get_error(self._ssl, result) != _lib.SSL_ERROR_WANT_READ:
                    raise self._error(result)
                if not self._fill(_RECORD):
                    return False
            return True
        finally:
            self._keep()

    @property
    def holds(self) -> bool:
        """Whether `read` may return earlier data although the socket is not readable."""
        return self._kept is not None or self.connection.pending() > 0

    def write(self, data: memoryview) -> int:
        """Encrypt the start of `data` and return its size, bytes. The caller must flush soon.

        Raises SSL.Error.
        """
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
        """Hand the output to the kernel. Return whether it accepted all of it. Raises OSError."""
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
        """Remove this connection from those with a spare buffer: it is in use, or will not be used again."""
        _keeping.pop(self, None)

    def settle(self) -> None:
        """Free the buffer of the handshake's output. What was not flushed moves to a smaller one."""
        self._shrink()

    def _shrink(self) -> None:
        out = _lib.BIO_new(_lib.BIO_s_mem())
        left = _lib.BIO_get_mem_data(self._out, _start)
        if left > 0:
            _lib.BIO_write(out, _start[0], left)
        _lib.SSL_set_bio(self._ssl, self._in, out)
        self._out = out
        self._longest = 0

    def _fill(self, size: int) -> bool:
        """Receive up to `size` bytes for OpenSSL to read next. False if there were none.

        OpenSSL must have read all bytes before. It must read all of these, or `_keep` must be called, before
        another connection fills the shared buffer.
        """
        try:
            size = self._sock.recv_into(_sealed_view, size)
        except BlockingIOError:
            return False
        if not size:
            raise SSL.SysCallError(-1, "Unexpected EOF")
        self._feed(_sealed, size)
        self._kept = None
        self.drained = False
        self._follow(size)
        return True

    def _follow(self, size: int) -> None:
        """Follow the lengths of the records (RFC 8446 section 5.2) in the `size` bytes received now."""
        at, view = self.lacks, _sealed_view
        if self._head:
            head = self._head + view[:_HEADER].tobytes()
            if len(self._head) + size < _HEADER:
                self._head = head[: len(self._head) + size]
                return
            at, self._head = _HEADER - len(self._head) + int.from_bytes(head[3:_HEADER], "big"), b""
        most = size - _HEADER
        while at <= most:
            at += _HEADER + (view[at + 3] << 8 | view[at + 4])
        if at < size:
            self._head, at = view[at:size].tobytes(), size
        self.lacks = at - size

    def _keep(self) -> None:
        """Copy the bytes that OpenSSL did not read out of the shared buffer."""
        left = _lib.BIO_get_mem_data(self._in, _start)
        if left <= 0:
            self._kept = None
        elif self._kept is None:
            self._kept = _ffi.new("char[]", left)
            _ffi.memmove(self._kept, _start[0], left)
            self._feed(self._kept, left)

    def _feed(self, data: Any, size: int) -> None:
        bio = _lib.BIO_new_mem_buf(data, size)
        _lib.BIO_set_mem_eof_return(bio, -1)  # the end of these bytes is not the end of data
        _lib.SSL_set_bio(self._ssl, bio, self._out)
        self._in = bio

    def _error(self, result: int) -> Exception:
        try:
            self.connection._raise_ssl_error(self._ssl, result)
        except SSL.Error as error:
            return error.with_traceback(None)  # which has the frames of the callers, and they keep the error
        raise AssertionError("OpenSSL knows no error")


def is_supported() -> bool:
    """Whether the installed pyOpenSSL was tested and has all names. If not, a warning is logged."""
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
    """Let OpenSSL write all data of a call, in as many records as needed."""
    _lib.SSL_CTX_clear_mode(context._context, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
