"""The protection of TLS 1.3's records, many at once (RFC 8446 section 5.2).

OpenSSL does the handshake. What follows is so simple that lane does it itself, with the ciphers of the
package `cryptography`: OpenSSL's record layer would copy each byte twice more, and its connections would need
buffers of their own, which are out of the processor's cache when their turn comes.
"""

import hmac
import struct
from functools import cache
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

ALERT, HANDSHAKE, DATA = 21, 22, 23
"""Types of content."""
UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW = 10, 20, 22
"""Alerts (section 6) that `Protection.open` asks for."""
HEADER = 5
"""Bytes before each record: its type, version and length."""
FULL = 16384
"""The most bytes of content in a record (section 5.1)."""
MOST_SEALED = FULL + 256
"""The most bytes of a record behind its header (section 5.2)."""
_TAG, _IV, _VERSION = 16, 12, 0x0303
OVERHEAD = HEADER + 1 + _TAG
"""Bytes of a sealed record beside its content: the header, the type, the tag."""
WHOLE, UNKNOWN = -1, -2
"""What a record lacks: nothing, or that is not known yet. See `Opened`."""
_MOST_EMPTY = 32  # records in a row without data
_SUITES: dict[str, tuple[Any, int, str]] = {
    "TLS_AES_128_GCM_SHA256": (AESGCM, 16, "sha256"),
    "TLS_AES_256_GCM_SHA384": (AESGCM, 32, "sha384"),
    "TLS_CHACHA20_POLY1305_SHA256": (ChaCha20Poly1305, 32, "sha256"),
}
_HEADER = struct.Struct("!BHH")
_FULL = FULL + 1 + _TAG  # bytes of a full record behind its header
_FULL_HEADER = _HEADER.pack(DATA, _VERSION, _FULL)
_FULL_SEALED = HEADER + _FULL
_DATA_TYPE = bytes((DATA,))

_contents = [memoryview(bytearray(FULL + 1))]  # of one record, and its type


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
        self._iv = int.from_bytes(_expand(secret, b"iv", _IV, digest), "big")
        self._number = number
        self._empty, self._empty_at = 0, -1  # records in a row without data, and the number of the last one

    def seal(self, out: memoryview, at: int, kind: int, head: bytes, data: memoryview) -> int:
        """Write records with `head` (up to FULL bytes) and `data` into `out` from `at` on. Return their end.

        All but the last are full. There is one without content if there is none.
        """
        encrypt, iv, number = self._encrypt, self._iv, self._number
        # A finalizer may seal an alert in the middle of this: it finds none, and makes its own.
        content = _contents.pop() if _contents else memoryview(bytearray(FULL + 1))
        begin, lead, taken, size = at, len(head), 0, len(data)
        content[:lead] = head
        content[FULL] = kind
        if size >= FULL - lead:
            taken = FULL - lead
            content[lead:FULL] = data[:taken]
            body = content[:FULL]
            while True:
                out[at : at + HEADER] = _FULL_HEADER
                self._number = number + 1  # whatever comes of it: no nonce serves twice
                following = at + _FULL_SEALED
                nonce = (iv ^ number).to_bytes(_IV, "big")
                encrypt(nonce, content, _FULL_HEADER, out[at + HEADER : following])
                number, at = number + 1, following
                if size - taken < FULL:
                    break
                body[:] = data[taken : taken + FULL]
                taken += FULL
            lead = 0
        if taken < size or at == begin:
            length = lead + size - taken
            content[lead:length] = data[taken:]
            content[length] = kind
            header, stop = _HEADER.pack(DATA, _VERSION, length + 1 + _TAG), at + OVERHEAD + length
            out[at : at + HEADER] = header
            self._number = number + 1
            nonce = (iv ^ number).to_bytes(_IV, "big")
            encrypt(nonce, content[: length + 1], header, out[at + HEADER : stop])
            at = stop
        _contents[:] = (content,)
        return at

    def seal_short(self, data: bytes) -> bytes:
        """A record with `data`, less than FULL bytes. With so few, copies cost less than views of buffers."""
        number, header = self._number, _HEADER.pack(DATA, _VERSION, len(data) + 1 + _TAG)
        self._number = number + 1  # whatever comes of it: no nonce serves twice
        nonce = (self._iv ^ number).to_bytes(_IV, "big")
        sealed: bytes = self._encrypt_short(nonce, data + _DATA_TYPE, header)
        return header + sealed

    def open(self, sealed: memoryview, start: int, plain: memoryview, made: int, limit: int) -> Opened:
        """Open the records in `sealed[start:]`, and write their data into `plain[made:]`.

        It ends behind a record with something else than data, and before `plain` has more than `limit` bytes.
        Only the record at `plain[0]` may be longer. `plain` must have MOST_SEALED bytes more than that.
        """
        decrypt, iv, there = self._decrypt, self._iv, len(sealed)
        while there - start >= HEADER and made < limit:
            number = self._number
            while (  # full records, as most are
                there - start >= _FULL_SEALED
                and limit - made >= FULL
                and sealed[start : start + HEADER] == _FULL_HEADER
            ):
                following, end = start + _FULL_SEALED, made + FULL
                nonce = (iv ^ number).to_bytes(_IV, "big")
                try:
                    decrypt(nonce, sealed[start + HEADER : following], _FULL_HEADER, plain[made : end + 1])
                except InvalidTag:
                    return Opened(start, made, -BAD_RECORD_MAC)
                if plain[end] != DATA:  # it is padded, or no data
                    break
                number += 1
                self._number, start, made = number, following, end
            if there - start < HEADER or made >= limit:
                break
            (kind, _, size), at = _HEADER.unpack_from(sealed, start), start + HEADER
            stop, end = at + size, made + size - _TAG - 1  # behind the content is its type
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
                nonce = (iv ^ self._number).to_bytes(_IV, "big")
                decrypt(nonce, sealed[at:stop], sealed[start:at], plain[made : end + 1])
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
        kind, _, size = _HEADER.unpack_from(sealed)
        if kind != DATA or size != len(sealed) - HEADER or size < 2 + _TAG:
            return None
        nonce = (self._iv ^ self._number).to_bytes(_IV, "big")
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
