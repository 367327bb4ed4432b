"""A queue of bytes that keeps the chunks in which they were appended.

Both directions of a session hold their bytes this way. A chunk is kept as it is, without a copy. Chunks below
4 KB are joined, so that one-byte writes don't cost an object each.
"""

Buffer = bytes | bytearray | memoryview
FrozenQueue = list[tuple[bytes, bool]]
"""The chunks, and whether more bytes may be joined to each."""

_SMALL = 4096
_JOINED = 16384  # bytes that a chunk has at most before one more is joined to it


class ByteQueue:
    """`frozen`: the value of another queue's `freeze`."""

    __slots__ = (
        "_chunks", "_skip", "size",
    )  # fmt: skip

    def __init__(self, frozen: FrozenQueue | None = None) -> None:
        self._chunks: list[Buffer] = []  # few; an empty deque takes 700 bytes
        self._skip = 0  # bytes of the first chunk that were removed
        self.size = 0
        if frozen:
            self._chunks = [bytearray(data) if joins else data for data, joins in frozen]
            self.size = sum(map(len, self._chunks))

    def freeze(self) -> FrozenQueue:
        """A copy of all bytes as a plain value."""
        skip, frozen = self._skip, []
        for chunk in self._chunks:
            frozen.append((bytes(memoryview(chunk)[skip:]), isinstance(chunk, bytearray)))
            skip = 0
        return frozen

    def append(self, data: Buffer) -> None:
        """Append `data`, which must not change any more."""
        self.size += len(data)
        if len(data) >= _SMALL:
            self._chunks.append(data)
            return
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, bytearray) and len(last) - (len(self._chunks) == 1) * self._skip < _JOINED:
            last += data
        else:
            self._chunks.append(bytearray(data))

    def prepend(self, data: bytes) -> None:
        """Put `data` in front of all other bytes."""
        if self._skip:
            self._chunks[0] = bytes(memoryview(self._chunks[0])[self._skip :])
            self._skip = 0
        self._chunks.insert(0, data)
        self.size += len(data)

    def take(self, limit: int) -> Buffer:
        """Remove and return 1 to `limit` bytes; the queue must not be empty."""
        chunk = self._chunks[0]
        size = min(len(chunk) - self._skip, limit)
        if not self._skip and size == len(chunk):
            self._chunks.pop(0)
            self.size -= size
            return chunk
        piece = bytes(memoryview(chunk)[self._skip : self._skip + size])
        self.drop(size)
        return piece

    def peek(self, start: int, limit: int) -> Buffer:
        """Returns 1 to `limit` bytes from index `start` on, and leaves them. There must be some."""
        last = self._chunks[-1] if self._chunks else b""
        if self.size - start <= len(last):  # the usual case: it was appended just now
            return _piece(last, len(last) - self.size + start, limit)
        start += self._skip
        for chunk in self._chunks:
            if start < len(chunk):
                return _piece(chunk, start, limit)
            start -= len(chunk)
        raise IndexError("there are no bytes there")

    def drop(self, size: int) -> None:
        """Remove the first `size` bytes. There must be that many."""
        if size == self.size:
            self._chunks.clear()
            self._skip = self.size = 0
            return
        self.size -= size
        self._skip += size
        while self._chunks and self._skip >= len(self._chunks[0]):
            self._skip -= len(self._chunks.pop(0))

    def clear(self) -> None:
        """Remove all bytes."""
        self._chunks.clear()
        self._skip = self.size = 0


def _piece(chunk: Buffer, start: int, limit: int) -> Buffer:
    if not 0 <= start < len(chunk):
        raise IndexError("there are no bytes there")
    piece = memoryview(chunk)[start : start + limit]
    return bytes(piece) if isinstance(chunk, bytearray) else piece  # a bytearray may still grow
