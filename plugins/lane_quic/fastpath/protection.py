"""Common packets, sealed and opened many at once (RFC 9001 sections 5.3 and 5.4).

`Portable` does that in Python. native.c has the same class in C, as `native.Protection`, at a fraction of the
cost. It is built where lane is installed with a compiler and OpenSSL's headers, and used if it is there.

A header is protected by a mask that depends on the payload. In a bulk transfer the next header is nearly
always known beforehand, and AEAD authenticates it: if the payload opens with the expected header, it was sent
with that header. The received header is not needed then, and nor is its mask.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol

from aioquic.buffer import size_uint_var
from aioquic.quic.crypto import CIPHER_SUITES, CryptoContext, derive_key_iv_hp
from cryptography.exceptions import InvalidTag

from lane_quic.fastpath.wire import WIDTHS, length_of, read_varint
from lane_quic.internals.parts import cipher_of, masks

try:
    from lane_quic.fastpath import native as compiled
except ImportError:
    native: Any = None
else:
    native = compiled

Row = tuple[bytes, int, int, int, bytearray, int]
"""A payload for each of several packets: a STREAM frame with offset and length. The encoded stream ID, the
first offset, the bytes of each frame, their number, the buffer with the data, and where these begin in it.
The offsets of a row take equally many bytes."""

_USUAL = 0x0E  # a STREAM frame with offset and length
_UNBOUNDED = b"\x0c"  # one with an offset, which ends with its packet
_MOST_JOINED = 65000  # bytes of data in frames that are joined
_FORM = b"%c%b%c%c%b"  # a packet: its first byte, connection ID, number (two bytes), payload


class Protection(Protocol):
    """Seals or opens packets with the keys of one direction.

    A `head` is the first byte of a short header, without its mask, and the connection ID. Packet numbers take
    two bytes.
    """

    def seal(self, head: bytes, number: int, payloads: list[bytes | Row]) -> list[tuple[bytes, int]]:
        """The packets from `number` on with these payloads. Each payload has two bytes or more.

        Packets may come joined, with the size of each, as the kernel takes them in one call: the last one may
        be shorter.
        """

    def open_row(
        self, head: bytes, number: int, datagrams: Sequence[bytes], start: int
    ) -> list[tuple[int, bytes]]:
        """The payloads of `datagrams` from `start` on, while they are the packets from `number` on, in order.

        Where several have one STREAM frame each, and these continue each other, they become one payload with
        one long frame, up to 65,000 bytes. So each payload comes with the number of its packets.
        """

    def open_one(self, head: bytes, expected: int, datagram: bytes) -> tuple[int, int, bytes] | None:
        """The number, the first byte and the payload of a packet with a number near `expected`.

        None if it does not open, or if the flags of its first byte differ from `head`, except the spin bit.
        """


def protect(context: CryptoContext, hp_key: bytes, *, seals: bool) -> Protection:
    """What seals packets with the keys of `context`, or opens them. `hp_key` is that of header protection."""
    if native is None:
        return Portable(context.aead, context.hp)
    assert context.cipher_suite is not None
    (_, suite), (key, iv, _) = CIPHER_SUITES[context.cipher_suite], derive(context)
    made: Protection = native.Protection(suite.decode(), key, iv, hp_key, seals)
    return made


def derive(context: CryptoContext) -> tuple[bytes, bytes, bytes]:
    """The key, the IV and the key of header protection that follow from the secret of `context`."""
    suite, secret, version = context.cipher_suite, context.secret, context.version
    assert suite is not None
    assert secret is not None
    assert version is not None
    return derive_key_iv_hp(cipher_suite=suite, secret=secret, version=version)


class Portable:
    """See `Protection`. `aead` and `hp` are aioquic's."""

    def __init__(self, aead: Any, hp: Any) -> None:
        self._cipher, self._iv = cipher_of(aead)
        self._hp = hp

    def seal(self, head: bytes, number: int, payloads: list[bytes | Row]) -> list[tuple[bytes, int]]:
        """See `Protection`."""
        encrypt, iv = self._cipher.encrypt, self._iv
        plains: list[bytes] = []
        for item in payloads:
            if isinstance(item, bytes):
                plains.append(item)
            else:
                plains += _frames(item)
        sealed = [
            encrypt((iv ^ n).to_bytes(12, "big"), plain, head + (n & 0xFFFF).to_bytes(2, "big"))
            for n, plain in enumerate(plains, number)
        ]
        found = masks(self._hp, [payload[2:18] for payload in sealed])
        first, cid = head[0], head[1:]
        more = len(head) + 2
        return [
            (
                _FORM % (first ^ mask[0] & 0x1F, cid, n >> 8 & 0xFF ^ mask[1], n & 0xFF ^ mask[2], payload),
                more + len(payload),
            )
            for n, (mask, payload) in enumerate(zip(found, sealed, strict=True), number)
        ]

    def open_row(
        self, head: bytes, number: int, datagrams: Sequence[bytes], start: int
    ) -> list[tuple[int, bytes]]:
        """See `Protection`."""
        decrypt, iv, cid, payload_at = self._cipher.decrypt, self._iv, head[1:], len(head) + 2
        shortest = payload_at + 18
        plains: list[bytes] = []
        try:
            for n, datagram in enumerate(islice(datagrams, start, None), number):
                if len(datagram) < shortest or datagram[0] & 0xC0 != 0x40 or not datagram.startswith(cid, 1):
                    break  # as `_is_ours`, without a call
                header = head + (n & 0xFFFF).to_bytes(2, "big")
                plains.append(decrypt((iv ^ n).to_bytes(12, "big"), datagram[payload_at:], header))
        except InvalidTag:
            pass
        return _join(plains)

    def open_one(self, head: bytes, expected: int, datagram: bytes) -> tuple[int, int, bytes] | None:
        """See `Protection`."""
        at = len(head)
        if not _is_ours(datagram, head[1:]):
            return None
        (mask,) = masks(self._hp, [datagram[at + 4 : at + 20]])
        first = datagram[0] ^ mask[0] & 0x1F
        if (first ^ head[0]) & 0x1F:
            return None
        truncated = (datagram[at] ^ mask[1]) << 8 | datagram[at + 1] ^ mask[2]
        number = _nearest(truncated, expected)
        header = bytes((first,)) + head[1:] + truncated.to_bytes(2, "big")
        try:
            return number, first, self._cipher.decrypt(
                (self._iv ^ number).to_bytes(12, "big"), datagram[at + 2 :], header
            )  # fmt: skip
        except InvalidTag:
            return None


def _frames(row: Row) -> list[bytes]:
    """The payloads of a row."""
    name, start, size, count, buffer, begin = row
    width = size_uint_var(start)
    head, form, filled, join = b"\x0e" + name, WIDTHS[width], length_of(size), b"".join
    offsets = range(start, start + count * size, size)
    return [
        join((head, (offset | form).to_bytes(width, "big"), filled, buffer[at : at + size]))
        for at, offset in zip(range(begin, begin + count * size, size), offsets, strict=True)
    ]


def _is_ours(datagram: bytes, cid: bytes) -> bool:
    """Whether it may be a packet with a short header and this connection ID, long enough for a sample."""
    return len(datagram) >= len(cid) + 21 and datagram[0] & 0xC0 == 0x40 and datagram.startswith(cid, 1)


def _nearest(truncated: int, expected: int) -> int:
    """The packet number nearest to `expected` whose low 16 bits are `truncated` (RFC 9000 appendix A.3)."""
    number = expected + (truncated - expected) % 0x10000
    return number - 0x10000 if number - expected > 0x8000 and number >= 0x10000 else number


def _join(plains: list[bytes]) -> list[tuple[int, bytes]]:
    """Join the payloads that continue each other: see `Protection.open_row`."""
    found: list[tuple[int, bytes]] = []
    start = 0
    while start < len(plains):
        whole, stop = plains[start], start + 1
        frame = _read_frame(whole) if stop < len(plains) else None
        if frame and (following := _following(plains, stop, frame)):
            stop += len(following)
            whole = b"".join((_UNBOUNDED, whole[1 : frame[2]], whole[frame[3] :], *following))
        found.append((stop - start, whole))
        start = stop
    return found


def _following(plains: list[bytes], start: int, frame: tuple[int, int, int, int]) -> list[bytes]:
    """The data of payloads from `plains[start]` on that continue the `frame` of the payload before.

    In a row only the offset differs in the bytes before the data. So these are compared, and rarely parsed.
    """
    before, (stream, offset, length_at, data_at) = plains[start - 1], frame
    size, count = len(before), len(before) - data_at
    _, offset_at = read_varint(before, 1)
    begin, filled, width = before[:offset_at], before[length_at:data_at], length_at - offset_at
    at, form, limit = offset + count, WIDTHS[width], 1 << width * 8 - 2
    room, pieces = _MOST_JOINED - count, []
    for plain in islice(plains, start, None):
        lead = begin + (at | form).to_bytes(width, "big") + filled if at < limit else None
        if lead and len(plain) == size and plain.startswith(lead):
            piece = plain[data_at:]
        elif (other := _read_frame(plain)) and other[:2] == (stream, at):
            piece = plain[other[3] :]
        else:
            break
        room -= len(piece)
        if room < 0:
            break
        pieces.append(piece)
        at += len(piece)
    return pieces


def _read_frame(plain: bytes) -> tuple[int, int, int, int] | None:
    """The only frame of a payload: its stream, its offset, the end of that and the begin of its data.

    None if it is not one STREAM frame with offset and length.
    """
    if plain[0] != _USUAL:
        return None
    try:
        stream, offset_at = read_varint(plain, 1)
        offset, length_at = read_varint(plain, offset_at)
        length, data_at = read_varint(plain, length_at)
    except IndexError:
        return None
    return (stream, offset, length_at, data_at) if 0 < length == len(plain) - data_at else None
