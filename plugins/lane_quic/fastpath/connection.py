"""What the fast paths need of a connection beside aioquic's state. The engine is built on this, and has it.

It is `Any` where lane has put another object in the place of aioquic's.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from lane_quic.internals.connection import Connection
from lane_quic.recovery.recovery import Recovery


class FrameBudget(Protocol):
    """What the peer's frames may cost."""

    def packet(self) -> None:
        """One more packet."""

    def spend(self, work: int) -> None:
        """Frames that cost so much. Raises QuicConnectionError."""


class PendingDatagrams(Protocol):
    """Datagrams that wait to be sent. It is false while it waits for streams to have their turn."""

    contended: bool
    share: float

    def __bool__(self) -> bool: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def popleft(self) -> bytes:
        """Take the oldest, to be sent."""


class FastPathConnection(Connection):
    """A connection whose packets may be read and written directly."""

    __slots__ = ("abandoned", "frame_budget", "keys", "space")

    abandoned: dict[int, int]
    """Bytes, by stream, that count as consumed, of streams that nobody reads any more."""
    datagrams_pending: PendingDatagrams
    frame_budget: FrameBudget
    keys: Any
    """Of packets with a short header."""
    loss: Recovery
    space: Any
    """The packet number space of those; None until there is one."""

    @property
    def lossy(self) -> bool:
        """Whether the ends of answers are sent twice."""
        raise NotImplementedError

    def gather_streams(self) -> list[Any]:
        """The streams that have something to say, in the order of service, which may be changed there."""
        raise NotImplementedError

    def never_sent(self, acknowledged: Sequence[range]) -> bool:
        """Whether ranges, in order, have the number of a packet that was never sent."""
        raise NotImplementedError

    def raise_connection_limit(self) -> bool:
        """Grant what was consumed; whether the peer is due new credit."""
        raise NotImplementedError
