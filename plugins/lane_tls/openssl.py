"""Reads and writes many TLS records at once; the only file that touches pyOpenSSL's private names.

`Connection.recv` allocates a buffer for each record of 16 KB, copies it out, and a caller that wants more
joins the copies. Here OpenSSL fills one buffer that all streams of the process share, which takes a third
off the cost of receiving; nobody may switch greenlets between filling and using it. `Connection.send`
takes one record a call, since pyOpenSSL asks OpenSSL for partial writes: without them one call writes
them all, which takes a tenth off the cost of sending. The canaries are in tests/unit/test_tls_openssl.py.
"""

from typing import Any

from OpenSSL import SSL

LARGEST = 262144
"""Bytes that one call returns at most."""

_lib: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]
_buffer = _ffi.new("char[]", LARGEST)
_view = memoryview(_ffi.buffer(_buffer)).toreadonly()


def read_records(connection: Any, limit: int) -> tuple[memoryview, SSL.Error | None]:
    """Up to `limit` bytes (at most LARGEST), all that can be had now, and what ended the reading.

    The bytes are in the shared buffer: they are gone with the next call for any connection.

    The error is what `Connection.recv` would raise next, None if `limit` was reached. It is to be kept
    even when there is data: OpenSSL need not report the loss of a connection twice.
    """
    limit = min(limit, LARGEST)
    ssl = connection._ssl
    size, error = 0, None
    while size < limit and error is None:
        result = _lib.SSL_read(ssl, _buffer + size, limit - size)
        if result > 0:
            size += result
        else:
            try:
                connection._raise_ssl_error(ssl, result)
            except SSL.Error as caught:
                error = caught
    return _view[:size], error


def write_records(connection: Any, view: memoryview) -> int:
    """Write all of `view`: its length. Raises what `Connection.send` does, and must be called again as it."""
    with _ffi.from_buffer(view) as data:
        result: int = _lib.SSL_write(connection._ssl, data, len(view))
    if result <= 0:
        connection._raise_ssl_error(connection._ssl, result)
    return result


def resumed(connection: Any) -> bool:
    """Whether the handshake of `connection` resumed an earlier session."""
    return bool(_lib.SSL_session_reused(connection._ssl))


def write_whole(context: SSL.Context) -> None:
    """Have `Connection.send` write all it is given, however many records that is, or raise.

    After WantWriteError it must be called again with the same data (the buffer may have moved).
    """
    _lib.SSL_CTX_clear_mode(context._context, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
