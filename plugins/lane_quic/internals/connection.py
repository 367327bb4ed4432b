"""aioquic's connection with public names for its state and its methods. The engine derives from it."""

from typing import TYPE_CHECKING, Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    Limit,
    QuicConnection,
    QuicConnectionId,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.logger import QuicLoggerTrace
from aioquic.tls import Epoch

from lane_quic.internals.aliases import Aliased, rely_on

_blank = QuicConnection(configuration=QuicConfiguration())
_state = rely_on(
    _blank,
    "_QuicConnection__frame_handlers",
    "_ack_delay",
    "_ack_eliciting_sent_since_receipt",
    "_close_at",
    "_close_event",
    "_close_pending",
    "_crypto_buffers",
    "_crypto_streams",
    "_cryptos",
    "_cryptos_initial",
    "_datagrams_pending",
    "_events",
    "_handshake_complete",
    "_handshake_confirmed",
    "_handshake_done_pending",
    "_is_client",
    "_local_ack_delay_exponent",
    "_local_max_data",
    "_local_max_streams_bidi",
    "_local_max_streams_uni",
    "_local_next_stream_id_bidi",
    "_loss",
    "_loss_at",
    "_max_datagram_size",
    "_network_paths",
    "_pacing_at",
    "_packet_number",
    "_peer_cid",
    "_peer_cid_available",
    "_peer_cid_sequence_numbers",
    "_ping_pending",
    "_probe_pending",
    "_quic_logger",
    "_remote_ack_delay_exponent",
    "_remote_max_data",
    "_remote_max_data_used",
    "_remote_max_datagram_frame_size",
    "_remote_max_streams_bidi",
    "_retire_connection_ids",
    "_spaces",
    "_spin_bit",
    "_spin_highest_pn",
    "_state",
    "_streams",
    "_streams_blocked_pending",
    "_streams_queue",
    first_cid="_local_initial_source_connection_id",
    issued_cids="_host_cids",
)
_steps = rely_on(
    _blank,
    "_consume_peer_cid",
    "_handle_ack_frame",
    "_handle_connection_close_frame",
    "_handle_crypto_frame",
    "_handle_new_connection_id_frame",
    "_handle_retire_connection_id_frame",
    "_handle_stop_sending_frame",
    "_idle_timeout",
    "_initialize",
    "_log_key_updated",
    "_on_ack_delivery",
    "_on_connection_limit_delivery",
    "_on_max_stream_data_delivery",
    "_parse_transport_parameters",
    "_payload_received",
    "_push_crypto_data",
    "_replenish_connection_ids",
    "_send_probe",
    "_serialize_transport_parameters",
    "_write_application",
    "_write_connection_limits",
    "_write_handshake_done_frame",
    "_write_new_connection_id_frame",
    "_write_stream_limits",
)


class Connection(Aliased, QuicConnection):
    """A connection of aioquic. An attribute has the type `Any` if lane replaces aioquic's object.

    This class and its subclasses have slots. A dict with so many names takes three times the memory.
    """

    ALIASES = _state | _steps
    __slots__ = (*{*vars(_blank), *_state.values()}, "tls")

    if TYPE_CHECKING:
        # The state of the connection, its events and its log.
        close_event: ConnectionTerminated | None
        close_pending: bool
        events: Any
        handshake_complete: bool
        handshake_confirmed: bool
        is_client: bool
        loss: Any
        quic_logger: QuicLoggerTrace | None
        state: QuicConnectionState
        streams: Any
        streams_queue: list[Any]

        # Paths and encryption.
        crypto_buffers: Any
        crypto_streams: Any
        cryptos: dict[Epoch, Any]
        cryptos_initial: dict[int, Any]
        first_cid: bytes
        issued_cids: list[QuicConnectionId]
        max_datagram_size: int
        network_paths: list[QuicNetworkPath]
        packet_number: int
        peer_cid: QuicConnectionId
        peer_cid_available: list[QuicConnectionId]
        peer_cid_sequence_numbers: set[int]
        spaces: dict[Epoch, Any]
        spin_bit: bool
        spin_highest_pn: int

        # Timers; seconds.
        ack_delay: float
        ack_eliciting_sent_since_receipt: bool
        close_at: float | None
        local_ack_delay_exponent: int
        loss_at: float | None
        pacing_at: float | None
        remote_ack_delay_exponent: int

        # Flow control.
        local_max_data: Limit
        local_max_streams_bidi: Limit
        local_max_streams_uni: Limit
        local_next_stream_id_bidi: int
        remote_max_data: int
        remote_max_data_used: int
        remote_max_datagram_frame_size: int | None
        remote_max_streams_bidi: int

        # Other things to send.
        datagrams_pending: Any
        handshake_done_pending: bool
        ping_pending: list[int]
        probe_pending: bool
        retire_connection_ids: list[int]
        streams_blocked_pending: bool

        # Handlers of received frames, by frame type: a method, and the epochs in which it is valid.
        frame_handlers: Any

        def handle_ack_frame(self, context: Any, frame_type: int, buf: Any) -> None: ...
        def handle_connection_close_frame(self, context: Any, frame_type: int, buf: Any) -> None: ...
        def handle_crypto_frame(self, context: Any, frame_type: int, buf: Any) -> None: ...
        def handle_new_connection_id_frame(self, context: Any, frame_type: int, buf: Any) -> None: ...
        def handle_retire_connection_id_frame(self, context: Any, frame_type: int, buf: Any) -> None: ...
        def handle_stop_sending_frame(self, context: Any, frame_type: int, buf: Any) -> None: ...

        def payload_received(
            self, context: QuicReceiveContext, plain: bytes, crypto_frame_required: bool = False
        ) -> tuple[bool, bool]:
            """Process the frames of a packet. The first result says whether the packet is ack-eliciting."""

        # Steps of the handshake.
        def initialize(self, peer_cid: bytes) -> None: ...
        def parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None: ...
        def serialize_transport_parameters(self) -> bytes: ...
        def push_crypto_data(self) -> None: ...
        def log_key_updated(self, key_type: str, trigger: str) -> None: ...
        def write_handshake_done_frame(self, builder: Any) -> None: ...

        # Connection IDs.
        def consume_peer_cid(self) -> None: ...
        def replenish_connection_ids(self) -> None: ...
        def write_new_connection_id_frame(self, builder: Any, connection_id: Any) -> None: ...

        # Writing frames, and their delivery or loss.
        def write_application(self, builder: Any, network_path: Any, now: float) -> None: ...
        def write_connection_limits(self, builder: Any, space: Any) -> None: ...
        def write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None: ...
        def on_ack_delivery(self, delivery: Any, space: Any, highest_acked: int) -> None: ...
        def on_connection_limit_delivery(self, delivery: Any, limit: Limit) -> None: ...
        def on_max_stream_data_delivery(self, delivery: Any, stream: Any) -> None: ...
        def send_probe(self) -> None: ...

        def idle_timeout(self) -> float:
            """Seconds of silence after which the connection ends."""
