"""What native.c has: see protection.py."""

from collections.abc import Sequence

from lane_quic.fastpath.protection import Row

class Protection:
    """See `lane_quic.fastpath.protection.Protection`. One object either seals or opens."""

    def __new__(cls, suite: str, key: bytes, iv: bytes, hp: bytes, seals: bool, /) -> Protection:
        """`suite` is the AEAD, as aioquic names it. Raises ValueError for keys of another size."""

    def seal(self, head: bytes, number: int, payloads: list[bytes | Row], /) -> list[tuple[bytes, int]]: ...
    def open_row(
        self, head: bytes, number: int, datagrams: Sequence[bytes], start: int, /
    ) -> list[tuple[int, bytes]]: ...
    def open_one(self, head: bytes, expected: int, datagram: bytes, /) -> tuple[int, int, bytes] | None: ...
