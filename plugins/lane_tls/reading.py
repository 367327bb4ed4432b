"""Reads all TLS records that are there with one copy; the only file that touches pyOpenSSL's private names.

`Connection.recv` allocates a buffer for each record of 16 KB, copies it out, and a caller that wants more
joins the copies. Here OpenSSL fills one buffer that all streams of the process share (nothing switches
greenlets between filling and copying), which takes a third off the cost of receiving. The canary is in
tests/unit/test_tls_reading.py.
"""

from typing import Any

from OpenSSL import SSL

LARGEST = 262144
"""Bytes that one call returns at most."""

_lib: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]
_buffer = _ffi.new("char[]", LARGEST)


def read_records(connection: Any, limit: int) -> tuple[bytes, SSL.Error | None]:
    """Up to `limit` bytes (at most LARGEST), all that can be had now, and what ended the reading.

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
    return _ffi.buffer(_buffer, size)[:], error
