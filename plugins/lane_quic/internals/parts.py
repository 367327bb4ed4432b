"""Parts of aioquic's connections with public names: streams, recovery, keys, TLS and traces."""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from aioquic.quic.crypto import (  # type: ignore[attr-defined]
    AEAD,
    CryptoContext,
    HeaderProtection,
)
from aioquic.quic.logger import QuicLoggerTrace
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketNumberWindow, QuicPacketRecovery
from aioquic.quic.stream import QuicStreamReceiver, QuicStreamSender
from aioquic.tls import Context
from cryptography import x509

from lane_quic.internals.aliases import Aliased, rely_on

_sender = rely_on(
    QuicStreamSender(stream_id=0, writable=True),
    "_acked",
    "_acked_fin",
    "_buffer",
    "_buffer_fin",
    "_buffer_start",
    "_buffer_stop",
    "_pending",
    "_pending_eof",
    "_reset_error_code",
)
_receiver = rely_on(
    QuicStreamReceiver(stream_id=0, readable=True), "_buffer", "_buffer_start", "_final_size", "_stream_id"
)
_recovery = rely_on(
    QuicPacketRecovery(
        congestion_control_algorithm="reno",
        initial_rtt=0.1,
        max_datagram_size=1200,
        peer_completed_address_validation=True,
        send_probe=lambda: None,
    ),
    "_cc",
    "_get_loss_space",
    "_in_persistent_congestion",
    "_on_packets_lost",
    "_pacer",
    "_pto_count",
    "_rtt_first_sample_time",
    "_rtt_initial",
    "_rtt_initialized",
    "_rtt_latest",
    "_rtt_min",
    "_rtt_smoothed",
    "_rtt_variance",
    "_send_probe",
    "_time_of_last_sent_ack_eliciting_packet",
)
_window = rely_on(QuicPacketNumberWindow(), "_lower", "_received", "_size")
_trace = rely_on(QuicLoggerTrace(is_client=True, odcid=b""), "_events", "_vantage_point")
rely_on(RangeSet(), "_RangeSet__ranges")
rely_on(AEAD(b"aes-128-gcm", bytes(16), bytes(12)), "_aead", "_iv")
rely_on(HeaderProtection(b"aes-128-ecb", bytes(16)), "_encryptor", "_is_chacha20", "_mask")
rely_on(CryptoContext(), "_setup_cb", "_teardown_cb")
rely_on(
    Context(is_client=True),
    "_peer_certificate",
    "_peer_certificate_chain",
    "_receive_buffer",
    "_session_resumed",
)
_BLOCK = 16  # bytes, of AES


class StreamSender(Aliased, QuicStreamSender):
    """The sending half of a stream: `pending` has the ranges to send, `acked` the acknowledged ones."""

    ALIASES = _sender
    __slots__ = tuple(_sender.values())

    if TYPE_CHECKING:
        acked: RangeSet
        acked_fin: bool
        buffer: bytearray
        buffer_fin: int | None
        buffer_start: int
        buffer_stop: int
        pending: RangeSet
        pending_eof: bool
        reset_error_code: int | None


class StreamReceiver(Aliased, QuicStreamReceiver):
    """The receiving half of a stream. `buffer` holds the data after a gap, and is false without a gap."""

    ALIASES = _receiver
    __slots__ = tuple(_receiver.values())

    if TYPE_CHECKING:
        buffer: Any
        buffer_start: int
        final_size: int | None
        stream_id: int | None


class PacketRecovery(Aliased, QuicPacketRecovery):
    """The loss recovery of a connection, with its estimate of the round-trip time. Times are seconds."""

    ALIASES = _recovery
    __slots__ = tuple(
        _recovery[name] for name in _recovery if not hasattr(QuicPacketRecovery, _recovery[name])
    )

    if TYPE_CHECKING:
        cc: Any
        pacer: Any
        pto_count: int
        rtt_first_sample_time: float
        rtt_initial: float
        rtt_initialized: bool
        rtt_latest: float
        rtt_min: float
        rtt_smoothed: float
        rtt_variance: float
        send_probe: Callable[[], None]
        time_of_last_sent_ack_eliciting_packet: float

        def get_loss_space(self) -> Any: ...
        def in_persistent_congestion(self, *, packets: Iterable[Any]) -> bool: ...


class PacketNumberWindow(Aliased, QuicPacketNumberWindow):
    """The received packet numbers: `received` has those of the newest `size` numbers, from `lower` on."""

    ALIASES = _window
    __slots__ = tuple(_window.values())

    if TYPE_CHECKING:
        lower: int
        received: set[int]
        size: int


class EventTrace(Aliased, QuicLoggerTrace):
    """The events of one connection for qlog."""

    ALIASES = _trace
    __slots__ = tuple(_trace.values())

    if TYPE_CHECKING:
        events: Any
        vantage_point: dict[str, str]


class FinishedTLS(Context):
    """The TLS state of a server after the handshake. A client that sends more messages gets an alert."""

    _peer_certificate, _peer_certificate_chain = None, ()  # type: ignore[assignment]  # a server has none

    def __init__(self, before: Context) -> None:
        self.state = before.state
        self.alpn_negotiated = before.alpn_negotiated
        self.early_data_accepted = before.early_data_accepted
        self._session_resumed = before._session_resumed
        self._receive_buffer = before._receive_buffer


def peer_certificates(tls: Context) -> list[x509.Certificate]:
    """The peer's certificates, leaf first."""
    leaf = tls._peer_certificate
    return ([leaf] if leaf else []) + [*tls._peer_certificate_chain]


ranges_of: Callable[[Any], list[range]] = attrgetter("_RangeSet__ranges")
"""The list in a RangeSet. The ranges in it must stay sorted and must not touch each other."""

cipher_of: Callable[[Any], tuple[Any, int]] = attrgetter("_aead", "_iv")
"""The cipher of an AEAD (from `cryptography`) and its IV. The IV and a packet number give the nonce."""


def masks(protection: Any, samples: list[bytes]) -> list[bytes]:
    """The header protection masks for `samples` (RFC 9001 section 5.4). Each has 5 bytes or more."""
    if protection._is_chacha20:
        return [protection._mask(sample) for sample in samples]
    found = protection._encryptor.update(b"".join(samples))
    return [found[at : at + _BLOCK] for at in range(0, len(found), _BLOCK)]


def callbacks(context: CryptoContext) -> dict[str, Any]:
    """The callbacks of `context`, as the arguments of its constructor."""
    return {"setup_cb": context._setup_cb, "teardown_cb": context._teardown_cb}
