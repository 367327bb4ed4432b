"""What the fast paths need of the engine, which is built on them. mypy holds both to it.

Most of it is aioquic's own state, under aioquic's names. It is `Any` where lane has put another object in
the place of aioquic's.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from aioquic.quic.connection import (
    Limit,
    QuicConnectionId,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.logger import QuicLoggerTrace

from lane_quic.recovery.recovery import Recovery


class FrameBudget(Protocol):
    """What the peer's frames may cost."""

    def packet(self) -> None:
        """One more packet."""

    def spend(self, work: int) -> None:
        """Frames that cost so much. Raises QuicConnectionError."""


class DatagramQueue(Protocol):
    """Datagrams that wait to be sent. It is false while it waits for streams to have their turn."""

    contended: bool
    share: float

    def __bool__(self) -> bool: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def popleft(self) -> bytes:
        """Take the oldest, to be sent."""


class Connection(Protocol):
    """A connection whose packets are read and written directly."""

    # Its state.
    _close_pending: bool
    _handshake_confirmed: bool
    _is_client: bool
    _quic_logger: QuicLoggerTrace | None
    _state: QuicConnectionState
    _streams: Any
    _events: Any
    _loss: Recovery

    # Where its packets go, and how they are sealed.
    host_cid: bytes
    _host_cids: list[QuicConnectionId]
    _keys: Any
    _max_datagram_size: int
    _network_paths: list[QuicNetworkPath]
    _packet_number: int
    _peer_cid: QuicConnectionId
    _space: Any
    _spin_bit: bool
    _spin_highest_pn: int

    # Timers.
    _ack_delay: float
    _ack_eliciting_sent_since_receipt: bool
    _close_at: float | None
    _local_ack_delay_exponent: int
    _pacing_at: float | None
    _remote_ack_delay_exponent: int

    # Flow control, and what else waits to be said.
    _abandoned: dict[int, int]
    _crypto_streams: Any
    _handshake_done_pending: bool
    _local_max_data: Limit
    _local_max_streams_bidi: Limit
    _ping_pending: list[int]
    _probe_pending: bool
    _remote_max_data: int
    _remote_max_data_used: int
    _retire_connection_ids: list[int]
    _streams_blocked_pending: bool

    @property
    def _frames(self) -> FrameBudget: ...

    @property
    def _datagrams_pending(self) -> DatagramQueue: ...

    @property
    def _lossy(self) -> bool:
        """Whether the ends of answers are sent twice."""

    def close(self, error_code: int = ..., frame_type: int | None = ..., reason_phrase: str = ...) -> None:
        """End the connection with an error."""

    def gather_streams(self) -> list[Any]:
        """The streams that have something to say, in the order of service, which may be changed there."""

    def _idle_timeout(self) -> float:
        """Seconds of silence after which it ends."""

    def _never_sent(self, acknowledged: Sequence[range]) -> bool:
        """Whether ranges, in order, have the number of a packet that was never sent."""

    def _on_ack_delivery(self, delivery: Any, space: Any, highest_acked: int) -> None:
        """What became of a packet with an ACK."""

    def _payload_received(
        self, context: QuicReceiveContext, plain: bytes, crypto_frame_required: bool = ...
    ) -> tuple[bool, bool]:
        """Act on frames that are not common; first, whether one of them asks for an acknowledgement."""

    def _raise_connection_limit(self) -> bool:
        """Grant what was consumed; whether the peer is due new credit."""
