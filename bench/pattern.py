"""What netlab's measure.py says: its pattern, with which benchmarks compare each byte, and its requests."""

import struct

PERIOD = 65521
CHUNK = 128 * 1024
"""Bytes that are sent, or compared, at once."""


def pattern():
    """measure.py's pattern, long enough for a slice of five periods from any phase in the first one."""
    data, x = bytearray(), 1
    while len(data) < PERIOD:
        x = (x * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        data += (x >> 16).to_bytes(6, "big")
    return bytes(data[:PERIOD]) * 6


PATTERN = pattern()


def part(offset, size):
    return PATTERN[offset % PERIOD :][:size]


class Corrupt(Exception):
    pass


def check(data, offset):
    if data != part(offset, len(data)):
        raise Corrupt(f"the data differ within {len(data)} bytes from byte {offset}")


def request(letter, number):
    return letter + b"\0\0\0" + struct.pack(">I", number)
