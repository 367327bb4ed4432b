"""aioquic as lane needs it, and the only file that touches its private names.

What aioquic does otherwise and a proxy cannot live with: its receive windows grow on bytes received
(here: on bytes consumed, so that what nobody reads is bounded), a peer may open 128 streams (here: as
many as the carrier wants), its stateless reset tokens are random and the peer's are ignored (here: the
server derives them from its key, so that a restarted server can end the connections of its former self
at once; RFC 9000 section 10.3.2). tests/unit/test_quic_engine.py holds the canaries: they fail when a
new aioquic means something else by these names.
"""

import hmac
import ssl
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.base import QuicCongestionControl, register_congestion_control
from aioquic.quic.congestion.cubic import CubicCongestionControl
from aioquic.quic.connection import QuicConnection, QuicConnectionState
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.recovery import QuicPacketPacer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from lane.errors import Closed, Reset
from lane.stream import LinkStats, ServerTLS

CID_SIZE = 8
IDLE_TIMEOUT = 20.0
STREAMS = 64
"""Streams a client may have open on one connection: the sender walks all of them for each packet."""
SMALL_DATAGRAM, LARGE_DATAGRAM = 1200, 1452
"""UDP payloads that every path carries (RFC 9000 section 14), and that an MTU of 1500 carries."""

MAX_STREAM_WINDOW = 32 << 20
MAX_CONNECTION_WINDOW = 64 << 20
PACING_QUANTUM, PACING_BURST = 0.001, 0.004
"""Seconds between two bursts, at least; and worth of the pacing rate in one burst, at most."""
PACING_GAIN = 1.25
"""Above one congestion window a round trip, so that pacing is not what limits (RFC 9002 section 7.7)."""
_SERVER_FLOORS = (65536, 65536)  # stream, connection: what a stranger can make the server hold
_CLIENT_FLOORS = (1 << 20, 4 << 20)
_RESET_TOKEN_SIZE = 16


class _Cubic(CubicCongestionControl):
    """Cubic that counts, for the statistics."""

    delivered = 0
    lost = 0

    def on_packet_acked(self, *, now: float, packet: Any) -> None:
        self.delivered += packet.sent_bytes
        super().on_packet_acked(now=now, packet=packet)

    def on_packets_lost(self, *, now: float, packets: Any) -> None:
        packets = list(packets)
        self.lost += sum(packet.sent_bytes for packet in packets)
        super().on_packets_lost(now=now, packets=packets)


def _cubic(*, max_datagram_size: int) -> QuicCongestionControl:
    return _Cubic(max_datagram_size=max_datagram_size)


register_congestion_control("lane-cubic", _cubic)


class _Pacer(QuicPacketPacer):
    """Sends what is due in a quantum at once: a timer a packet would cost more than the packet."""

    def next_send_time(self, now: float) -> Any:  # aioquic says float, and returns None for "now"
        at = super().next_send_time(now)
        return at and max(at, now + PACING_QUANTUM)

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(int(congestion_window * PACING_GAIN), smoothed_rtt)
        self.bucket_max = max(self.bucket_max, PACING_BURST)


def reset_token(state_key: bytes, cid: bytes) -> bytes:
    """The stateless reset token of `cid`: 16 bytes that only the holder of `state_key` can tell."""
    return hmac.digest(state_key, cid, "sha256")[:_RESET_TOKEN_SIZE]


def client_configuration(server_name: str | None, datagram_size: int) -> QuicConfiguration:
    """Certificates are not judged here: `chain` hands them to whoever does."""
    return QuicConfiguration(
        is_client=True, server_name=server_name, verify_mode=ssl.CERT_NONE, **_common(datagram_size)
    )


def server_configuration(tls: ServerTLS) -> QuicConfiguration:
    """For the connections of a listener with the identity `tls`."""
    chain = x509.load_pem_x509_certificates(tls.chain_pem)
    key = load_pem_private_key(tls.key_pem, None)
    return QuicConfiguration(
        is_client=False,
        certificate=chain[0],
        certificate_chain=chain[1:],
        private_key=key,
        **_common(SMALL_DATAGRAM),
    )


def _common(datagram_size: int) -> dict[str, Any]:
    return {
        "alpn_protocols": ["h3"],
        "congestion_control_algorithm": "lane-cubic",
        "connection_id_length": CID_SIZE,
        "idle_timeout": IDLE_TIMEOUT,
        "max_datagram_size": datagram_size,
    }


class _Streams(dict[int, Any]):
    """The streams of a connection. aioquic asks every one of them, for every packet, whether it has credit
    to announce, and that is all it calls `values` for: so that names those which have."""

    def __init__(self) -> None:
        self.with_credit: dict[int, Any] = {}

    def values(self) -> Any:
        return list(self.with_credit.values()) if self.with_credit else ()


class Engine(QuicConnection):
    """One QUIC connection without I/O. Servers pass `original_cid` and their `state_key`."""

    def __init__(
        self, configuration: QuicConfiguration, original_cid: bytes | None = None, state_key: bytes = b""
    ) -> None:
        stream_floor, floor = _CLIENT_FLOORS if configuration.is_client else _SERVER_FLOORS
        configuration.max_stream_data, configuration.max_data = stream_floor, floor
        super().__init__(configuration=configuration, original_destination_connection_id=original_cid)
        self._loss._pacer = _Pacer(max_datagram_size=configuration.max_datagram_size)
        self._stream_floor, self._floor = stream_floor, floor
        self._state_key = state_key
        self._streams: _Streams = _Streams()
        self._consumed = 0
        self._abandoned: dict[int, int] = {}  # stream: bytes of it that count as consumed
        streams = 0 if configuration.is_client else STREAMS
        for limit, value in ((self._local_max_streams_bidi, streams), (self._local_max_streams_uni, 0)):
            limit.value = limit.sent = value
        if state_key:
            self._host_cids[0].stateless_reset_token = reset_token(state_key, self.host_cid)

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        for cid in self._host_cids:
            if self._state_key and not cid.was_sent:
                cid.stateless_reset_token = reset_token(self._state_key, cid.cid)

    # What the carrier asks.

    @property
    def host_cids(self) -> list[bytes]:
        """The connection IDs that this side answers to."""
        return [cid.cid for cid in self._host_cids]

    @property
    def reached(self) -> bool:
        """Whether a packet of the peer could be read: garbage that came from there does not count."""
        return self._state != QuicConnectionState.FIRSTFLIGHT

    @property
    def capacity(self) -> int:
        """Streams that may be opened now without waiting for the peer to allow them."""
        return max(0, self._remote_max_streams_bidi - self._local_next_stream_id_bidi // 4)

    @property
    def ended_by_peer(self) -> Closed | None:
        """How the peer closed the connection; None if it did not.

        A Reset for an error of its application (RFC 9000 section 19.19): it is alive, and not of our kind.
        """
        if self._state != QuicConnectionState.DRAINING:
            return None
        event = self._close_event
        text = f"the peer closed the connection: {(event and event.reason_phrase) or 'no reason given'}"
        if event and event.frame_type is None and event.error_code:
            return Reset(event.error_code & 0xFFFFFFFF, text)
        return Closed(text)

    @property
    def chain(self) -> list[bytes]:
        """The peer's certificates, leaf first, DER."""
        leaf = self.tls._peer_certificate
        found = ([leaf] if leaf else []) + self.tls._peer_certificate_chain
        return [certificate.public_bytes(Encoding.DER) for certificate in found]

    def is_stateless_reset(self, datagram: bytes) -> bool:
        """Whether the peer says with `datagram` that it has forgotten this connection."""
        end = datagram[-_RESET_TOKEN_SIZE:]
        return any(
            hmac.compare_digest(end, cid.stateless_reset_token or b"")
            for cid in (self._peer_cid, *self._peer_cid_available)
        )

    def unsent(self, stream_id: int) -> int:
        """Bytes written to a stream that have never been sent."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender._reset_error_code is not None:
            return 0
        return int(stream.sender._buffer_stop - stream.sender.highest_offset)

    def drained(self) -> bool:
        """Whether the peer has acknowledged all that was written and finished."""
        senders = [stream.sender for _, stream in self._streams.items()]
        return all(sender.is_finished or sender._buffer_fin is None for sender in senders)

    def knows(self, stream_id: int) -> bool:
        """Whether a stream has any state left."""
        return stream_id in self._streams

    def stats(self) -> LinkStats:
        """The path as seen from here."""
        loss, control = self._loss, self._loss._cc
        assert isinstance(control, _Cubic)
        sent = control.delivered + control.lost
        return LinkStats(
            rtt=loss._rtt_smoothed if loss._rtt_initialized else None,
            loss=control.lost / sent if sent else None,
            delivered=control.delivered,
            in_flight=loss.bytes_in_flight,
        )

    # Credit by consumption.

    def consume(self, stream_id: int, size: int, total: int) -> bool:
        """`size` bytes of a stream were read, `total` so far; whether the peer is due new credit."""
        self._consumed += size
        due = self._raise_connection_limit()
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            window = _window(total, self._stream_floor, MAX_STREAM_WINDOW)
            if total + window - stream.max_stream_data_local >= window // 4:
                stream.max_stream_data_local = total + window
                self._streams.with_credit[stream_id] = stream
                due = True
        return due

    def abandon(self, stream_id: int, total: int, unread: int) -> None:
        """Nobody will read a stream any more: what it has received and will receive counts as consumed.

        `total` bytes of it were read, `unread` were handed out by events and not read.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            self._consumed += unread
        elif stream_id not in self._abandoned:
            self._abandoned[stream_id] = total

    def _raise_connection_limit(self) -> bool:
        for stream_id, counted in list(self._abandoned.items()):
            stream = self._streams.get(stream_id)
            if stream is not None:
                self._consumed += stream.receiver.highest_offset - counted
                self._abandoned[stream_id] = stream.receiver.highest_offset
            if stream is None or stream.receiver.is_finished:
                del self._abandoned[stream_id]
        window = _window(self._consumed, self._floor, MAX_CONNECTION_WINDOW)
        limit = self._local_max_data
        if self._consumed + window - limit.value < window // 4:
            return False
        limit.value = self._consumed + window
        return True

    def _write_application(self, builder: Any, network_path: Any, now: float) -> None:
        """As aioquic does, but idle streams are looked at once a flush and not once a packet."""
        busy: list[Any] = []
        idle: list[Any] = []
        for stream in self._streams_queue:
            sender = stream.sender
            waits = sender.buffer_is_empty and not sender.reset_pending and not stream.receiver.stop_pending
            (idle if waits and not stream.is_finished else busy).append(stream)
        self._streams_queue = busy
        try:
            super()._write_application(builder, network_path, now)
        finally:
            self._streams_queue += idle

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        if self._abandoned:
            self._raise_connection_limit()
        data, streams = self._local_max_data, self._local_max_streams_bidi
        # MAX_STREAMS goes out once the peer has fewer streams left than the update grants.
        few = streams.sent - streams.used < streams.value - streams.sent
        for limit, due in ((data, data.value != data.sent), (streams, few)):
            if due:
                buf = builder.start_frame(
                    limit.frame_type,
                    capacity=1 + 8,
                    handler=self._on_connection_limit_delivery,
                    handler_args=(limit,),
                )
                buf.push_uint_var(limit.value)
                limit.sent = limit.value

    def _on_max_stream_data_delivery(self, delivery: Any, stream: Any) -> None:
        super()._on_max_stream_data_delivery(delivery, stream)
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:  # it was lost
            self._streams.with_credit[stream.stream_id] = stream

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=1 + 8 + 8,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        buf.push_uint_var(stream.stream_id)
        buf.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local
        self._streams.with_credit.pop(stream.stream_id, None)


def _window(consumed: int, floor: int, most: int) -> int:
    """Who reads much may be sent much: never less than `floor`, never more than `most`."""
    return min(most, max(floor, 2 * consumed))
