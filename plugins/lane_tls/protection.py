"""The protection of TLS 1.3's records, many at once (RFC 8446 section 5.2).

OpenSSL does the handshake. What follows is so simple that lane does it itself, with the ciphers of the
package `cryptography`: OpenSSL's record layer would copy each byte twice more, and its connections would need
buffers of their own, which are out of the processor's cache when their turn comes.
"""

import hmac
from functools import cache
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from lane_tls import portable
from lane_tls.portable import DATA, FULL, HEAD, HEADER, IV, MOST_SEALED, TAG, VERSION

try:
    from lane_tls import native as compiled
except ImportError:
    native: Any = None
else:
    native = compiled

many: Any = native or portable
"""What seals and opens records many at once."""
ALERT, HANDSHAKE = 21, 22
"""Types of content, beside DATA."""
UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW = 10, 20, 22
"""Alerts (section 6) that `Protection.open` asks for."""
WHOLE, UNKNOWN = -1, -2
"""What a record lacks: nothing, or that is not known yet. See `Opened`."""
_MOST_EMPTY = 32  # records in a row without data
_SUITES: dict[str, tuple[Any, int, str]] = {
    "TLS_AES_128_GCM_SHA256": (AESGCM, 16, "sha256"),
    "TLS_AES_256_GCM_SHA384": (AESGCM, 32, "sha384"),
    "TLS_CHACHA20_POLY1305_SHA256": (ChaCha20Poly1305, 32, "sha256"),
}
_DATA_TYPE = bytes((DATA,))


class Opened(NamedTuple):
    """What `Protection.open` found."""

    start: int
    """Where the first record begins that was not opened."""
    made: int
    """Where the data end."""
    kind: int = DATA
    """The type of the last record. Negative: an alert, and no more can be read."""
    other: int = 0
    """Bytes of that record's content, if it is no data. They are behind the data."""
    lacks: int = 0
    """Bytes that the next record lacks; 0 if nothing of it is there. Or WHOLE or UNKNOWN."""


class Protection:
    """Seals or opens the records of one direction, in order, with one key: record `number` is the next."""

    def __init__(self, suite: str, secret: bytes, number: int) -> None:
        cipher, size, digest = _SUITES[suite]
        aead = cipher(_expand(secret, b"key", size, digest))
        self._encrypt, self._decrypt = aead.encrypt_into, aead.decrypt_into
        self._encrypt_short, self._decrypt_short = aead.encrypt, aead.decrypt
        self._iv_bytes = _expand(secret, b"iv", IV, digest)
        self._iv = int.from_bytes(self._iv_bytes, "big")
        self._number = number
        self._empty, self._empty_at = 0, -1  # records in a row without data, and the number of the last one

    def seal(self, out: memoryview, at: int, kind: int, head: bytes, data: memoryview) -> int:
        """Write records into `out` from `at` on, and return their end: see `lane_tls.portable.seal`."""
        number = self._number
        # Whatever comes of it: no nonce serves twice.
        self._number = number + (-(-(len(head) + len(data)) // FULL) or 1)
        end: int = many.seal(self._encrypt, self._iv_bytes, number, out, at, kind, head, data)
        return end

    def seal_short(self, data: bytes) -> bytes:
        """A record with `data`, less than FULL bytes. With so few, copies cost less than views of buffers."""
        number, header = self._number, HEAD.pack(DATA, VERSION, len(data) + 1 + TAG)
        self._number = number + 1  # whatever comes of it: no nonce serves twice
        nonce = (self._iv ^ number).to_bytes(IV, "big")
        sealed: bytes = self._encrypt_short(nonce, data + _DATA_TYPE, header)
        return header + sealed

    def open(self, sealed: memoryview, start: int, plain: memoryview, made: int, limit: int) -> Opened:
        """Open the records in `sealed[start:]`, and write their data into `plain[made:]`.

        It ends behind a record with something else than data, and before `plain` has more than `limit` bytes.
        Only the record at `plain[0]` may be longer. `plain` must have MOST_SEALED bytes more than that.
        """
        there = len(sealed)
        while there - start >= HEADER and made < limit:
            self._number, start, made = many.open_data(
                self._decrypt, self._iv_bytes, self._number, sealed, start, plain, made, limit
            )
            if there - start < HEADER or made >= limit:
                break
            (kind, _, size), at = HEAD.unpack_from(sealed, start), start + HEADER
            stop, end = at + size, made + size - TAG - 1  # behind the content is its type
            if kind != DATA:
                return Opened(start, made, -UNEXPECTED_MESSAGE)
            if size > MOST_SEALED:
                return Opened(start, made, -RECORD_OVERFLOW)
            if end < made:
                return Opened(start, made, -BAD_RECORD_MAC)
            if stop > there:
                return Opened(start, made, lacks=stop - there)
            if end > limit and made:
                return Opened(start, made, lacks=WHOLE)
            try:
                nonce = (self._iv ^ self._number).to_bytes(IV, "big")
                self._decrypt(nonce, sealed[at:stop], sealed[start:at], plain[made : end + 1])
            except InvalidTag:
                return Opened(start, made, -BAD_RECORD_MAC)
            self._number += 1
            start = stop
            if plain[end] != DATA or end - made > FULL or end == made:  # seldom
                end, kind = self._look(plain, made, end)
                if kind != DATA:
                    return Opened(start, made, kind, end - made if kind > 0 else 0)
            made = end
        left = there - start
        return Opened(start, made, lacks=0 if not left else UNKNOWN if left < HEADER else WHOLE)

    def open_short(self, sealed: bytes) -> bytes | None:
        """The data of one record that has nothing else: neither padding nor another type.

        None if `sealed` is anything else. Then `open` says what.
        """
        kind, _, size = HEAD.unpack_from(sealed)
        if kind != DATA or size != len(sealed) - HEADER or size < 2 + TAG:
            return None
        nonce = (self._iv ^ self._number).to_bytes(IV, "big")
        try:
            content: bytes = self._decrypt_short(nonce, sealed[HEADER:], sealed[:HEADER])
        except InvalidTag:
            return None
        if not content.endswith(_DATA_TYPE):
            return None
        self._number += 1
        return content[:-1]

    def _look(self, plain: memoryview, made: int, end: int) -> tuple[int, int]:
        """The end and the type of content that is padded up to `end` (section 5.4)."""
        end = made + len(bytes(plain[made : end + 1]).rstrip(b"\0")) - 1
        if end < made:
            return end, -UNEXPECTED_MESSAGE
        if end - made > FULL:
            return end, -RECORD_OVERFLOW
        if end == made:
            self._empty = self._empty + 1 if self._number == self._empty_at + 1 else 1
            self._empty_at = self._number
        return end, plain[end] if self._empty <= _MOST_EMPTY else -UNEXPECTED_MESSAGE


def next_secret(suite: str, secret: bytes) -> bytes:
    """The traffic secret that follows a KeyUpdate (section 7.2)."""
    return _expand(secret, b"traffic upd", len(secret), _SUITES[suite][2])


def _expand(secret: bytes, label: bytes, size: int, digest: str) -> bytes:
    """HKDF-Expand-Label without a context (section 7.1), for no more bytes than the digest has."""
    return hmac.digest(secret, _info(label, size), digest)[:size]


@cache
def _info(label: bytes, size: int) -> bytes:
    name = b"tls13 " + label
    return size.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0\1"
