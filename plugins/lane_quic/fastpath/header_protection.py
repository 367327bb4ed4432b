"""Decryption of common packets. Packets in order are decrypted without reading their headers.

A header is protected by a mask that depends on the payload (RFC 9001 section 5.4). In a bulk transfer the
next header is nearly always known beforehand, and AEAD authenticates it: if the payload decrypts with the
expected header, it was sent with that header. The received header is not needed then, and nor is its mask.
"""

from itertools import islice

from cryptography.exceptions import InvalidTag

from lane_quic.configuration import CID_SIZE
from lane_quic.fastpath.connection import FastPathConnection
from lane_quic.internals.parts import cipher_of, masks

_NUMBER_AT = 1 + CID_SIZE
_PAYLOAD_AT = _NUMBER_AT + 2  # both sides write two bytes of a number
_SAMPLE_AT = _NUMBER_AT + 4
SHORTEST = _SAMPLE_AT + 16
"""The least bytes of a packet (RFC 9001 section 5.4.2)."""
SPIN = 0x20
"""The spin bit of the first byte (RFC 9000 section 17.3.1)."""


def expected(engine: FastPathConnection) -> int:
    """The first byte of the next packet, if its flags are those of the newest packet."""
    spin: int = SPIN if engine.spin_bit != engine.is_client else 0
    return spin | 0x40 | int(engine.keys.recv.key_phase) << 2 | 1


def open_in_turn(engine: FastPathConnection, datagrams: list[bytes], start: int) -> list[bytes]:
    """Decrypt packets from `datagrams[start]` on, as long as they are in order. Return their payloads."""
    keys, number = engine.keys.recv, engine.space.largest_received_packet + 1
    cipher, iv = cipher_of(keys.aead)
    decrypt = cipher.decrypt
    head = bytes((expected(engine),)) + engine.host_cid
    plains: list[bytes] = []
    try:
        for n, datagram in enumerate(islice(datagrams, start, None), number):
            header = head + (n & 0xFFFF).to_bytes(2, "big")
            plains.append(decrypt((iv ^ n).to_bytes(12, "big"), datagram[_PAYLOAD_AT:], header))
    except InvalidTag:
        pass
    return plains


def open_one(engine: FastPathConnection, datagram: bytes) -> tuple[int, int, bytes] | None:
    """Decrypt one packet: its number, its first byte and its payload. None if it is not a common packet."""
    keys = engine.keys.recv
    (mask,) = masks(keys.hp, [datagram[_SAMPLE_AT:SHORTEST]])
    first = datagram[0] ^ mask[0] & 0x1F
    if (first ^ expected(engine)) & 0x1F:
        return None
    truncated = (datagram[_NUMBER_AT] ^ mask[1]) << 8 | datagram[_NUMBER_AT + 1] ^ mask[2]
    number = _nearest(truncated, engine.space.expected_packet_number)
    cipher, iv = cipher_of(keys.aead)
    header = bytes((first,)) + engine.host_cid + truncated.to_bytes(2, "big")
    try:
        plain = cipher.decrypt((iv ^ number).to_bytes(12, "big"), datagram[_PAYLOAD_AT:], header)
    except InvalidTag:
        return None
    return number, first, plain


def _nearest(truncated: int, expected: int) -> int:
    """The packet number nearest to `expected` whose low 16 bits are `truncated` (RFC 9000 appendix A.3)."""
    number = expected + (truncated - expected) % 0x10000
    return number - 0x10000 if number - expected > 0x8000 and number >= 0x10000 else number
