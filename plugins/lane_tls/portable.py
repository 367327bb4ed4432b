"""Records of data, sealed and opened many at once, in Python (RFC 8446 section 5.2).

native.c has the same functions in C, which take less CPU. It is built where lane is installed with a
compiler, and used if it is there: see `lane_tls.protection`.
"""

import struct
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag

DATA = 23
"""The type of content of application data."""
HEADER = 5
"""Bytes before each record: its type, version and length."""
FULL = 16384
"""The most bytes of content in a record (section 5.1)."""
MOST_SEALED = FULL + 256
"""The most bytes of a record behind its header (section 5.2)."""
TAG, IV, VERSION = 16, 12, 0x0303
OVERHEAD = HEADER + 1 + TAG
"""Bytes of a sealed record beside its content: the header, the type, the tag."""
HEAD = struct.Struct("!BHH")
"""The header."""
_LEAST_SEALED = 2 + TAG  # a byte of data, its type, the tag
_FULL_SEALED = FULL + 1 + TAG
_FULL_HEADER = HEAD.pack(DATA, VERSION, _FULL_SEALED)

_contents = [memoryview(bytearray(FULL + 1))]  # of one record, and its type


def seal(  # noqa: PLR0917 (in C, keywords would cost more)
    encrypt: Callable[..., Any],
    iv: bytes,
    number: int,
    out: memoryview,
    at: int,
    kind: int,
    head: bytes,
    data: memoryview,
    /,
) -> int:
    """Write records with `head` (up to FULL bytes) and `data` into `out` from `at` on. Return their end.

    They have the numbers from `number` on, and content of the type `kind`. All but the last are full. There
    is one without content if there is none. `encrypt` is `encrypt_into` of an AEAD. Raises ValueError if
    `out` has no room for them.
    """
    base, begin, lead, taken, size = int.from_bytes(iv, "big"), at, len(head), 0, len(data)
    # A finalizer may seal an alert in the middle of this: it finds none, and makes its own.
    content = _contents.pop() if _contents else memoryview(bytearray(FULL + 1))
    content[:lead] = head
    content[FULL] = kind
    if size >= FULL - lead:
        taken = FULL - lead
        content[lead:FULL] = data[:taken]
        body = content[:FULL]
        while True:
            out[at : at + HEADER] = _FULL_HEADER
            following = at + HEADER + _FULL_SEALED
            nonce = (base ^ number).to_bytes(IV, "big")
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
        header, stop = HEAD.pack(DATA, VERSION, length + 1 + TAG), at + OVERHEAD + length
        out[at : at + HEADER] = header
        nonce = (base ^ number).to_bytes(IV, "big")
        encrypt(nonce, content[: length + 1], header, out[at + HEADER : stop])
        at = stop
    _contents[:] = (content,)
    return at


def open_data(  # noqa: PLR0917 (in C, keywords would cost more)
    decrypt: Callable[..., Any],
    iv: bytes,
    number: int,
    sealed: memoryview,
    start: int,
    plain: memoryview,
    made: int,
    limit: int,
    /,
) -> tuple[int, int, int]:
    """Open the records in `sealed[start:]`, the first of which has this number, while they are usual ones.

    Their data are written into `plain` from `made` on, up to `limit`, which must be less than its length.
    `decrypt` is `decrypt_into` of an AEAD. A usual record is whole, and has data without padding. Whatever
    comes first that is not so, or is not sealed with this key, is left. Returns its number, where it begins,
    and where the data end.
    """
    base, there = int.from_bytes(iv, "big"), len(sealed)
    while there - start >= HEADER:
        at = start + HEADER
        if sealed[start:at] == _FULL_HEADER:  # as most are
            header, size = _FULL_HEADER, _FULL_SEALED
        else:
            header = bytes(sealed[start:at])
            kind, _, size = HEAD.unpack(header)
            if kind != DATA or not _LEAST_SEALED <= size <= _FULL_SEALED:
                break
        stop, end = at + size, made + size - TAG - 1
        if stop > there or end > limit:
            break
        try:
            decrypt((base ^ number).to_bytes(IV, "big"), sealed[at:stop], header, plain[made : end + 1])
        except InvalidTag:
            break
        if plain[end] != DATA:
            break
        number, start, made = number + 1, stop, end
    return number, start, made
