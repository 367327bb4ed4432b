"""The base class of the engine: the parts of a connection that the fast path uses beside aioquic's state.

An attribute has the type `Any` if lane replaces aioquic's object with its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from lane_quic.internals.connection import Connection
from lane_quic.recovery.recovery import Recovery


class FrameBudget(Protocol):
    """Limits the work that the peer's frames cause."""

    def packet(self, now: float) -> None:
        """Count one more packet, which came at `now`."""

    def spend(self, work: int) -> None:
        """Count frames that cost `work`. Raises QuicConnectionError if that is too much."""


class PendingDatagrams(Protocol):
    """The datagrams to send. The queue is false if it is empty, or while streams have their turn."""

    contended: bool
    share: float

    def __bool__(self) -> bool: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def popleft(self) -> bytes:
        """Remove and return the oldest datagram, to send it."""

    def take_all(self) -> None:
        """Remove all datagrams, to send them. No stream has data to send."""


class FastPathConnection(Connection):
    """A connection whose packets may be parsed and written directly."""

    __slots__ = (
        "abandoned", "acked", "frame_budget", "idle", "keys", "said_all", "space", "stirred", "tls_messages",
    )  # fmt: skip

    abandoned: dict[int, int]
    """The streams that nobody reads any more: bytes that count as consumed, by stream ID."""
    acked: bool
    """Whether an ACK came since packets were last sent."""
    datagrams_pending: PendingDatagrams
    frame_budget: FrameBudget
    idle: float
    """Seconds without a packet after which the connection ends."""
    keys: Any
    """The keys of packets with a short header."""
    loss: Recovery
    said_all: bool
    """Whether it is settled, and nothing but data and an ACK can be due: it was so, and nothing happened."""
    space: Any
    """The packet number space of packets with a short header; None before the handshake starts."""
    stirred: bool
    """Whether anything but data and ACKs came since packets were last sent. It may let others be sent."""
    tls_messages: Any
    """The stream of TLS messages in packets with a short header."""

    def close(self, *arguments: Any, **named: Any) -> None:
        self.said_all = False
        super().close(*arguments, **named)

    def handle_timer(self, now: float) -> None:
        self.said_all = False
        super().handle_timer(now)

    def send_ping(self, uid: int) -> None:
        self.said_all = False
        super().send_ping(uid)

    def change_connection_id(self) -> None:
        self.said_all = False
        super().change_connection_id()

    def note_tails(self, busy: Iterable[Any], now: float) -> None:
        """Note which of the `busy` streams, just served, may have a tail that is sent twice."""
        raise NotImplementedError

    def gather_streams(self) -> list[Any]:
        """The streams with something to send, in the order of service. The caller may reorder the list."""
        raise NotImplementedError

    def note_rtt(self) -> None:
        """Choose what follows from the round-trip time, which may be another one now."""
        raise NotImplementedError

    def never_sent(self, acknowledged: Sequence[range]) -> bool:
        """Whether the sorted ranges `acknowledged` contain the number of a packet that was never sent."""
        raise NotImplementedError

    def raise_connection_limit(self) -> bool:
        """Raise the connection's flow control limit by the consumed bytes. Return whether it changed."""
        raise NotImplementedError
