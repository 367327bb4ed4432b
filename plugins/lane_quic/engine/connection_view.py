"""What the carrier asks a connection, without changing it: its state, its room, and its measurements."""

from collections.abc import Callable
from typing import Any

from aioquic.quic.connection import QuicConnectionState
from cryptography.hazmat.primitives.serialization import Encoding

from lane.errors import Closed, Reset
from lane.stream import LinkStats
from lane_quic.engine.datagrams import NO_DATAGRAMS, QuicDatagrams, SendQueue
from lane_quic.engine.resuming import Resuming
from lane_quic.internals.parts import peer_certificates

UNSENT_TIME = 0.010
"""Unsent data of one stream, in seconds of the pacing rate."""
UNSENT_LEAST = 32768
"""Bytes of unsent data that a stream may have at any pacing rate."""
UNSENT_MOST = 262144
"""The most bytes of unsent data that a stream may have."""
SILENT_TIMEOUTS = 3
"""Probe timeouts in a row that suggest a dead path. On a lossy path one or two are common."""


class ConnectionView(Resuming):
    """A connection that can be asked."""

    __slots__ = ("_batches", "_datagrams", "_packets_sent", "wake")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.wake: Callable[[], None] = lambda: None
        """Called when something is to be sent."""
        self._datagrams: QuicDatagrams | None = None
        self.datagrams_pending: SendQueue = NO_DATAGRAMS
        self._batches = self._packets_sent = 0

    @property
    def reached(self) -> bool:
        """Whether a packet of the peer could be decrypted. Garbage from its address does not count."""
        return self.state != QuicConnectionState.FIRSTFLIGHT

    @property
    def silent(self) -> bool:
        """Whether no answer arrived for several probe timeouts."""
        return self.loss.timeouts >= SILENT_TIMEOUTS

    @property
    def datagrams(self) -> QuicDatagrams:
        """Created at its first use, since most connections have no datagrams."""
        if self._datagrams is None:
            self._datagrams = QuicDatagrams(self)
            self.datagrams_pending = self._datagrams.outgoing
        return self._datagrams

    def _resize(self, size: int) -> None:
        super()._resize(size)
        if self._datagrams is not None:
            self._datagrams.fit()

    @property
    def capacity(self) -> int:
        """Number of streams that the peer allows to be opened now."""
        return max(0, self.remote_max_streams_bidi - self.local_next_stream_id_bidi // 4)

    @property
    def ended_by_peer(self) -> Closed | None:
        """The error with which the peer closed the connection; None if it did not.

        An application error (RFC 9000 section 19.19) gives a Reset: the peer is alive, but speaks no lane.
        """
        if self.state != QuicConnectionState.DRAINING:
            return None
        event = self.close_event
        text = f"the peer closed the connection: {(event and event.reason_phrase) or 'no reason given'}"
        if event and event.frame_type is None and event.error_code:
            return Reset(event.error_code & 0xFFFFFFFF, text)
        return Closed(text)

    @property
    def chain(self) -> list[bytes]:
        """The peer's certificates (DER, leaf first)."""
        return [certificate.public_bytes(Encoding.DER) for certificate in peer_certificates(self.tls)]

    @property
    def unsent_limit(self) -> int:
        """Bytes of unsent data that a stream may have: enough for a few turns of the event loop."""
        rate = self.loss.pacer.rate or 0.0
        return int(min(max(rate * UNSENT_TIME, UNSENT_LEAST), UNSENT_MOST))

    def unsent(self, stream_id: int) -> int:
        """Bytes that were written to a stream and not sent yet."""
        stream = self.streams.get(stream_id)
        return 0 if stream is None else stream.sender.unsent

    def all_arrived(self, stream_id: int) -> bool:
        """Whether the peer has acknowledged all that was written to a stream."""
        stream = self.streams.get(stream_id)
        return stream is not None and stream.sender.buffer_start == stream.sender.buffer_stop

    def drained(self) -> bool:
        """Whether the peer has acknowledged all data of all finished streams."""
        return all(stream.sender.drained for stream in self.streams.values())

    def knows(self, stream_id: int) -> bool:
        """Whether the stream still has state here."""
        return stream_id in self.streams

    def stats(self) -> LinkStats:
        """This side's measurements of the path."""
        loss, progress = self.loss, self.loss.progress
        sent = progress.delivered + progress.lost
        return LinkStats(
            rtt=loss.rtt,
            loss=progress.lost / sent if sent else None,
            sent=sent,
            lost=progress.lost,
            delivered=progress.delivered,
            in_flight=loss.bytes_in_flight,
            more={
                "packet_size": self.max_datagram_size,
                "packets_a_batch": self._packets_sent / max(1, self._batches),
                "acks": loss.acks,
                "spurious": loss.spurious,
                "reordering": round(loss.reordering_window, 6),
                **self.datagrams.counts(),
            },
        )
