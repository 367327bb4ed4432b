"""What lane needs of OpenSSL beyond pyOpenSSL's public names. Only this file uses private ones.

tests/unit/lane_tls/test_openssl.py fails if one of them changes.
"""

import threading
from typing import Any

from OpenSSL import SSL

from lane.tested import is_tested, lacking

TESTED = ("26.4",)
"""Versions of pyOpenSSL that lane was tested with."""
CONNECTION = ("_into_ssl", "_ssl")
"""Private names of pyOpenSSL's connections that are used here."""
CONTEXT = ("_context",)
"""And of its contexts."""
_lib: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]
_start = _ffi.new("char **")


def is_supported() -> bool:
    """Whether the installed pyOpenSSL was tested and has all names. If not, a warning is logged."""
    context = SSL.Context(SSL.TLS_METHOD)
    missing = lacking(context, CONTEXT) + lacking(SSL.Connection(context, None), CONNECTION)
    return is_tested("pyOpenSSL", TESTED, missing=missing, otherwise="TLS may not work")


class _KeyLog(threading.local):
    """The lines of this thread's handshakes that nobody has taken yet."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []


_key_log = _KeyLog()


@_ffi.callback("void (*)(const SSL *, const char *)")  # type: ignore[untyped-decorator]
def _note(_: Any, line: Any) -> None:
    _key_log.lines.append(_ffi.string(line))


def log_keys(context: Any) -> None:
    """Have the connections of `context` log their secrets: see `logged`.

    pyOpenSSL's own callback looks up the connection for each of five lines, which takes as long as a key.
    """
    _lib.SSL_CTX_set_keylog_callback(context._context, _note)


def logged() -> list[bytes]:
    """Take the lines that this thread has logged since the last call (NSS's SSLKEYLOGFILE format)."""
    lines, _key_log.lines = _key_log.lines, []
    return lines


def secret(lines: list[bytes], label: bytes) -> bytes:
    """The secret with this label. A line has it, the client's random, and the secret in hexadecimal."""
    line = next(line for line in lines if line.startswith(label))
    return bytes.fromhex(line[line.rindex(b" ") :].decode())


def resumed(connection: Any) -> bool:
    """Whether the handshake of `connection` resumed an earlier session."""
    return bool(_lib.SSL_session_reused(connection._ssl))


def exchange_with(connection: Any, groups: bytes) -> None:
    """Offer only these `groups` for the key exchange (RFC 8446 section 4.2.7)."""
    _lib.SSL_set1_curves_list(connection._ssl, groups)


def left(connection: Any) -> bytes:
    """What OpenSSL was given by `bio_write` and has not read: records behind the handshake."""
    size = _lib.BIO_get_mem_data(connection._into_ssl, _start)
    return bytes(_ffi.buffer(_start[0], size)) if size > 0 else b""
