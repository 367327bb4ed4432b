"""A limit on frames that carry no news.

Such a frame is cheap for the peer, and costs us about as much as one with data. So frames that repeat what is
known, or only ask, use up an allowance. Time and data refill it: a sender with a small buffer sends a PING
each time that the buffer is full.
"""

from lane.errors import ProtocolError

EMPTY = 1000.0
"""Frames without news that a peer may send at once."""
EMPTY_RATE = 100.0
"""Frames without news that a peer may send each second in the long run."""
EMPTY_SIZE = 256
"""Bytes of new data that allow one more frame without news."""


class EmptyFrames:
    """The allowance of one session's peer, which has sent `received` bytes of data.

    `frozen`: the value of another one's `freeze`.
    """

    __slots__ = (
        "_left", "_received", "_since",
    )  # fmt: skip

    def __init__(self, frozen: tuple[float, float] = (EMPTY, 0.0), received: int = 0) -> None:
        self._left, self._since = frozen  # frames that are left, and since when
        self._received = received  # bytes that count in these

    def freeze(self, received: int) -> tuple[float, float]:
        """The whole state as a plain value, `received` bytes of data having come."""
        return min(EMPTY, self._left + (received - self._received) / EMPTY_SIZE), self._since

    def left(self, now: float, received: int) -> float:
        """The frames that the peer may send now, after `received` bytes of data."""
        more = (now - self._since) * EMPTY_RATE + (received - self._received) / EMPTY_SIZE
        return min(EMPTY, self._left + more)

    def count(self, now: float, received: int) -> None:
        """Count one frame, after `received` bytes of data. Raises ProtocolError beyond the allowance."""
        self._left = self.left(now, received) - 1
        self._since, self._received = now, received
        if self._left < 0:
            raise ProtocolError("too many frames that say nothing")
