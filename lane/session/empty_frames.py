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
    """The allowance of one session's peer. `frozen`: the value of another one's `freeze`."""

    __slots__ = (
        "_left", "_since",
    )  # fmt: skip

    def __init__(self, frozen: tuple[float, float] = (EMPTY, 0.0)) -> None:
        self._left, self._since = frozen  # frames that are left, and since when

    def freeze(self) -> tuple[float, float]:
        """The whole state as a plain value."""
        return self._left, self._since

    def count(self, now: float) -> None:
        """Count one frame. Raises ProtocolError when the allowance is used up."""
        self._left = min(EMPTY, self._left + (now - self._since) * EMPTY_RATE) - 1
        self._since = now
        if self._left < 0:
            raise ProtocolError("too many frames that say nothing")

    def excuse(self, size: int) -> None:
        """`size` bytes of new data came."""
        if self._left < EMPTY:
            self._left = min(EMPTY, self._left + size / EMPTY_SIZE)
