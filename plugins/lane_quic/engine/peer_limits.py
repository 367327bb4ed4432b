"""Limits on the work and memory that an established peer can cause, where aioquic has none.

A peer that exceeds a limit loses its own connection, with the error code from RFC 9000. aioquic itself limits
path challenges, paths, active connection IDs and streams. bench/flood.py sends floods of all of these.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from secrets import randbelow
from typing import Any

import cryptography.hazmat.backends.openssl.backend  # noqa: F401  (else aioquic imports it at its first dial)
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, pull_ack_frame
from aioquic.tls import Epoch

from lane_quic.engine.assembler import Assembler
from lane_quic.fastpath.connection import FastPathConnection
from lane_quic.fastpath.wire import CHEAP, COSTLY

logging.getLogger("quic").setLevel(logging.CRITICAL)  # a peer could fill the log; carriers log why they end

MOST_CRYPTO = 65536
"""Bytes of TLS messages that a peer may send in one epoch. Certificate chains are shorter."""
MOST_PEER_CIDS = 1024
"""Connection IDs of the peer that are remembered, including retired ones."""
LONGEST_REASON = 200
"""Characters that are kept of the peer's reason for closing."""
FIRST_SKIPPED = 256
"""The least number of packets before the first skipped packet number. Later skips are ever rarer, since the
peer counts each as a loss."""
WORK_A_PACKET = 80
"""Work that the frames of one packet may cost. A frame with data (CHEAP) costs 1, any other costs COSTLY. So
every packet may have short messages of 64 streams, and more do not fit if each has 12 bytes."""
WORK_SAVED = 4096
"""Unused work that may be saved up for packets with more frames."""
MOST_FLIGHT = 16384
"""Bytes of one flight of TLS messages in one epoch. A server's flight includes its certificates."""
_handlers: dict[int, tuple[str, Any]] = {}
"""aioquic's frame handlers, by frame type: the name of the method, and the epochs in which it is valid."""


class FrameHandlers(Mapping[int, Any]):
    """aioquic's frame handlers, by frame type: a method, and the epochs in which it is valid.

    Each look-up counts as one frame. A peer that sends hundreds of empty frames in each packet could keep the
    processor busy at little cost (RFC 9000 section 21.9). All connections share one table of 6 KB.
    """

    __slots__ = ("_connection", "left")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.left = WORK_SAVED

    def packet(self) -> None:
        """Count one more packet."""
        self.left = min(self.left + WORK_A_PACKET, WORK_SAVED)

    def spend(self, work: int) -> None:
        """Count frames that cost `work`. Raises QuicConnectionError if that is too much."""
        self.left -= work
        if self.left < 0:
            raise _violation(QuicFrameType.PADDING, "too many frames that say too little")

    def __getitem__(self, kind: int) -> Any:
        self.spend(1 if kind in CHEAP else COSTLY)
        name, epochs = _handlers[kind]
        return getattr(self._connection, name), epochs

    def __contains__(self, kind: object) -> bool:
        return kind in _handlers

    def __iter__(self) -> Iterator[int]:
        return iter(_handlers)

    def __len__(self) -> int:
        return len(_handlers)


class PeerLimits(FastPathConnection):
    """A connection that ends if its peer exceeds a limit."""

    __slots__ = ("_newest_cid_sent", "_skip_at", "_skipped", "_updated_at")

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if not _handlers:
            found = self.frame_handlers
            _handlers.update({kind: (handler.__name__, epochs) for kind, (handler, epochs) in found.items()})
        self.frame_budget = self.frame_handlers = FrameHandlers(self)
        self.stirred, self.acked = True, False
        self._newest_cid_sent = 0
        self._updated_at = -1  # our next packet number at the time of the peer's last key update
        self._skipped, self._skip_at = -1, FIRST_SKIPPED + randbelow(FIRST_SKIPPED)

    def initialize(self, peer_cid: bytes) -> None:
        super().initialize(peer_cid)
        self.crypto_buffers = defaultdict(partial(Buffer, capacity=MOST_FLIGHT))  # memory only while in use
        for stream in self.crypto_streams.values():
            stream.receiver = Assembler(None)
        self.tls_messages = self.crypto_streams[Epoch.ONE_RTT]

    def push_crypto_data(self) -> None:
        super().push_crypto_data()
        self.crypto_buffers.clear()

    def _skip_number(self) -> None:
        """Skip a packet number now and then. A peer that acknowledges it cheats (RFC 9000 section 21.4)."""
        if self.packet_number >= self._skip_at:
            self._skipped = self.packet_number
            self.packet_number += 1
            self._skip_at = self.packet_number * 3 // 2 + randbelow(self.packet_number)

    def never_sent(self, acknowledged: Sequence[range]) -> bool:
        """Whether the sorted ranges `acknowledged` contain the number of a packet that was never sent."""
        skipped = self._skipped
        return acknowledged[-1].stop > self.packet_number or (
            acknowledged[0].start <= skipped and any(skipped in r for r in acknowledged)
        )

    def payload_received(self, context: Any, plain: bytes, crypto_frame_required: bool = False) -> Any:
        self.stirred = True
        self.frame_budget.packet()
        return super().payload_received(context, plain, crypto_frame_required)

    def handle_ack_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        at = buf.tell()
        try:
            acknowledged, _ = pull_ack_frame(buf)
        except ValueError:  # aioquic handles the error below
            acknowledged = None
        if acknowledged is not None and self.never_sent(acknowledged):
            raise _violation(frame_type, "a packet was acknowledged that was never sent")
        buf.seek(at)
        super().handle_ack_frame(context, frame_type, buf)

    def handle_crypto_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        at = buf.tell()
        if buf.pull_uint_var() + buf.pull_uint_var() > MOST_CRYPTO:
            raise QuicConnectionError(
                QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "TLS messages are too long"
            )
        buf.seek(at)
        super().handle_crypto_frame(context, frame_type, buf)

    def handle_stop_sending_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        """Handle as aioquic does, but report only the first such frame of each stream."""
        at = buf.tell()
        stream = self.streams.get(buf.pull_uint_var())
        known = stream is not None and stream.sender.reset_error_code is not None
        buf.seek(at)
        super().handle_stop_sending_frame(context, frame_type, buf)
        if known:
            self.events.pop()

    def write_new_connection_id_frame(self, builder: Any, connection_id: Any) -> None:
        super().write_new_connection_id_frame(builder, connection_id)
        self._newest_cid_sent = max(self._newest_cid_sent, connection_id.sequence_number)

    def handle_retire_connection_id_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        """Accept only issued IDs (RFC 9000 section 19.16). Otherwise one packet could use up hundreds."""
        at = buf.tell()
        if buf.pull_uint_var() > self._newest_cid_sent:
            raise _violation(frame_type, "a connection ID was retired that was never issued")
        buf.seek(at)
        super().handle_retire_connection_id_frame(context, frame_type, buf)

    def handle_new_connection_id_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        super().handle_new_connection_id_frame(context, frame_type, buf)
        if len(self.peer_cid_sequence_numbers) > MOST_PEER_CIDS:
            raise QuicConnectionError(
                QuicErrorCode.CONNECTION_ID_LIMIT_ERROR, frame_type, "too many connection IDs"
            )

    def consume_peer_cid(self) -> None:
        if not self.peer_cid_available:
            frame_type = QuicFrameType.NEW_CONNECTION_ID
            raise _violation(frame_type, "the last connection ID was retired without a new one")
        super().consume_peer_cid()

    def handle_connection_close_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        """Clean the peer's reason phrase, since it is shown to users and written to logs."""
        super().handle_connection_close_frame(context, frame_type, buf)
        if (event := self.close_event) is not None:
            event.reason_phrase = "".join(filter(str.isprintable, event.reason_phrase))[:LONGEST_REASON]

    def log_key_updated(self, key_type: str, trigger: str) -> None:
        """Called by aioquic at a key update.

        The peer may not update twice before it has received a packet with the new keys from us (RFC 9001
        section 6.2).
        """
        super().log_key_updated(key_type, trigger)
        if trigger == "remote_update" and key_type.startswith("server") == self.is_client:
            if self._updated_at == self.packet_number:
                self.close(QuicErrorCode.KEY_UPDATE_ERROR, QuicFrameType.PADDING, "keys were updated twice")
            self._updated_at = self.packet_number


def _violation(frame_type: int, reason: str) -> QuicConnectionError:
    return QuicConnectionError(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, reason)
