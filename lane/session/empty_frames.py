"""How many frames that say nothing new a peer may send.

A frame costs the peer little, and us about as much as one with data. So those that tell nothing, or only ask,
come out of an allowance, which time and data fill again: a sender with a small buffer asks for an ACK each
time that it is full.
"""

from lane.errors import ProtocolError

EMPTY, EMPTY_RATE, EMPTY_SIZE = 1000.0, 100.0, 256
"""Such frames that a peer may send at once, and a second, and bytes of data that excuse one."""


class EmptyFrames:
    """The allowance of one session's peer. `frozen`: what `freeze` of another one gave."""

    def __init__(self, frozen: tuple[float, float] = (EMPTY, 0.0)) -> None:
        self._left, self._since = frozen  # frames that it might send, and when that was so

    def freeze(self) -> tuple[float, float]:
        """The whole state as a plain value."""
        return self._left, self._since

    def count(self, now: float) -> None:
        """One more came. Raises ProtocolError."""
        self._left = min(EMPTY, self._left + (now - self._since) * EMPTY_RATE) - 1
        self._since = now
        if self._left < 0:
            raise ProtocolError("too many frames that say nothing")

    def excuse(self, size: int) -> None:
        """`size` bytes of new data came."""
        self._left = min(EMPTY, self._left + size / EMPTY_SIZE)
