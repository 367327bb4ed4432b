"""aioquic's connection with the changes that a proxy needs. internals/ gives its private names public ones.

The changes: receive windows (flow_control.py), loss detection (recovery/), key updates (keys.py), less CPU
time for common packets (fastpath/), the packet size (mtu_discovery.py), the ends of short answers
(tail_repeat.py), what is known of the path (resuming.py), reset tokens (connection_ids.py). What carriers
ask a connection is in connection_view.py. When a new version of aioquic gives a private name another meaning,
tests/unit/lane_quic/engine/test_engine.py fails.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionState
from aioquic.quic.packet import pull_quic_transport_parameters, push_quic_transport_parameters
from aioquic.quic.packet_builder import QuicPacketBuilderStop
from aioquic.tls import Epoch

from lane_quic.configuration import DEFAULTS, LARGE_DATAGRAM, LARGEST_RECEIVED, Settings
from lane_quic.engine.ack_timing import ACK_DELAY_SLACK, MAX_ACK_DELAY
from lane_quic.engine.letting_go import LettingGo
from lane_quic.engine.mtu_discovery import HOLE_PACKETS
from lane_quic.engine.received_packets import ReceivedPackets
from lane_quic.fastpath import datagram, message
from lane_quic.fastpath import receive as fast_receive
from lane_quic.fastpath import send as fast_send
from lane_quic.fastpath.batch import Datagrams
from lane_quic.recovery.recovery import Recovery
from lane_quic.trace.qlog import Trace, log_metrics
from lane_quic.udp.offload import apart


class Engine(LettingGo):
    """One QUIC connection without I/O. Servers pass `original_cid`, `state_key` and a Retry's `retry_cid`."""

    __slots__ = ("_control", "_cut_short", "_ends_only", "_fast", "_path", "timer_stays")

    def __init__(
        self,
        configuration: QuicConfiguration,
        original_cid: bytes | None = None,
        state_key: bytes = b"",
        *,
        retry_cid: bytes | None = None,
        settings: Settings = DEFAULTS,
    ) -> None:
        super().__init__(configuration, original_cid, retry_cid)
        self.derive_tokens(state_key)
        self.loss = Recovery(
            settings.control(LARGE_DATAGRAM),
            configuration.max_datagram_size,
            validated=not configuration.is_client,
            send_probe=self.send_probe,
        )
        self._fast = settings.fast
        self._cut_short = False  # a frame had no room in aioquic's last packet
        self._ends_only = False  # whether streams with only data to send are left out
        self._control = settings.control
        self._path: Any = None  # the path that this side sends on
        self.timer_stays = False
        """Whether the timer is not due earlier than before packets were last sent."""
        self.space: Any = None  # the packet number space of 1-RTT packets, looked up once

    # Called by the carrier.

    def probe(self, now: float) -> None:
        """Send something that the peer must answer: a PING, or the handshake messages so far."""
        if self.handshake_complete:
            self.send_ping(0)
        else:
            self.loss.reschedule_data(now=now)

    def _flush_trace(self) -> None:
        if isinstance(self.quic_logger, Trace):
            self.quic_logger.flush()

    def close_trace(self) -> None:
        """End the connection's qlog, if it has one. The connection has ended, whatever its state says."""
        if isinstance(self.quic_logger, Trace):
            self.quic_logger.close()

    # Receiving and sending packets.

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """See `receive_datagrams`."""
        self.receive_datagrams((data,), addr, now)

    def receive_datagrams(self, datagrams: Sequence[bytes], addr: Any, now: float) -> None:
        """Process datagrams. `stirred` says whether something may be to send then."""
        index, count, before = 0, len(datagrams), self._ack_state()
        self.loss.progress.received += sum(map(len, datagrams))
        while index < count:
            if self._fast:
                index = fast_receive.receive(self, datagrams, index, addr, now)
            if self.close_pending:
                break
            if index < count:
                self.stirred = True
                self.said_all = False
                super().receive_datagram(datagrams[index], addr, now=now)
                self._note_path()
                self._flush_trace()
                index += 1
        self._time_ack(datagrams, now, before)

    def _note_path(self) -> None:
        """Start measuring again if the peer sends from another address now."""
        path = self.network_paths[0] if self.network_paths else None
        if path is not self._path:
            if self._path is not None:
                self._start_anew()
            else:
                self._recall()
            self._path = path

    def _start_anew(self) -> None:
        """Forget the measurements of the old path (RFC 9000 section 9.4)."""
        self.loss.start_anew(self._control(LARGE_DATAGRAM))
        self.note_rtt()
        self._recall()
        self._search_anew()

    def move(self) -> None:
        """Note that this client sends from another address now. It changes its connection ID too."""
        self.change_connection_id()
        self._start_anew()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """The packets that may be sent now, one by one."""
        return apart(self.trains_to_send(now))

    def trains_to_send(self, now: float) -> Datagrams:
        """The packets that may be sent now, as far as they are joined already."""
        news = self.stirred or self.acked
        self.stirred = self.acked = False
        datagrams = self._send_message(now) if self._fast else None
        if datagrams is None:
            datagrams, news = self._send_batch(now), True
        elif self.space.ack_eliciting_in_flight <= len(datagrams) or self._tails_at is not None:
            news = True
        self.timer_stays = not news and self.pacing_at is None
        self._note_acked(now)
        if datagrams:
            self._note_sent(datagrams)
        return datagrams

    def _send_message(self, now: float) -> Datagrams | None:
        """What there is to send, if it is a small message, datagrams for one packet, or nothing."""
        if self._has_upkeep(now):
            return None
        send = datagram.send if len(self.datagrams_pending) else message.send
        datagrams = send(self, now, ack_rides=self._ack_may_ride(now))
        if datagrams:
            datagrams += self._find_size(now) + self._scout(now)
        return datagrams

    def _send_batch(self, now: float) -> Datagrams:
        """Whatever there is to send."""
        self._let_ack_ride(now)
        self._leave_black_hole()
        self._skip_number()
        if self.packet_number >= self._update_at or self.keys.before is not None:
            self._change_keys(now)
        self._repeat_tails(now)
        if len(self.datagrams_pending):
            self.datagrams.fit()
        datagrams, done = self._write_ends(now), False
        if self._fast:
            found, done = fast_send.send(self, now)
            datagrams += found
        if not done:
            datagrams += self._write(now) + self._send_the_rest(now)
        if datagrams and fast_send.settled(self):
            datagrams += self._find_size(now) + self._scout(now)
        return datagrams

    def _write(self, now: float) -> list[tuple[bytes, Any]]:
        """The packets that aioquic writes. It stops where a frame has no room: a further packet has it."""
        datagrams: list[tuple[bytes, Any]] = []
        while True:
            self._cut_short = False
            self.said_all = False
            found = super().datagrams_to_send(now)
            datagrams += found
            held = self.pacing_at is not None or self.loss.room < self.max_datagram_size
            if not (found and self._cut_short) or held:
                return datagrams

    def _note_sent(self, datagrams: Datagrams) -> None:
        """Count what is sent."""
        size = 0
        for data, _ in datagrams:
            size += len(data)
            self._packets_sent += 1 if isinstance(data, bytes) else data.count
        self._batches += 1
        self.tail_budget.on_sent(size)
        if self._datagrams is not None:
            self.datagrams_pending.on_sent(size)
        if self.quic_logger is not None:
            log_metrics(self.quic_logger, self.loss)
            self._flush_trace()

    def _let_ack_ride(self, now: float) -> None:
        """Let an ACK leave with the little that is to be sent, unless another one has just left."""
        if self._ack_may_ride(now):
            streams = self.gather_streams()
            if (streams or len(self.datagrams_pending)) and not (streams and _is_long(streams[-1])):
                self.space.ack_at = min(self.space.ack_at, now)

    def _write_ends(self, now: float) -> Datagrams:
        """What would keep much data from the fast path, in packets without these data."""
        if not fast_send.settled(self):
            return []
        streams = self.gather_streams()
        if not streams or not _is_long(streams[-1]) or not fast_send.held_up(self, streams, now):
            return []
        self._ends_only = True
        try:
            found: Datagrams = [*self._write(now)]
        finally:
            self._ends_only = False
        return found

    def _has_upkeep(self, now: float) -> bool:
        """Whether a tail may be due, a packet number is skipped, keys change, or the path may be broken."""
        return (
            (self._tails_at is not None and now >= self._tails_at)
            or self.packet_number >= self._skip_at
            or self.packet_number >= self._update_at
            or self.keys.before is not None
            or self.loss.timeouts > 0
            or self.loss.large_lost >= HOLE_PACKETS
        )

    def quiet_until(self, now: float) -> float | None:
        """When the next thing is to do. None if something may be to send at once, or it is unknown.

        An ACK alone lets something be sent where the window or the rate held it up, or something was lost.
        """
        if self.stirred or self.close_pending:
            return None
        at: float | None = self.space.ack_at
        if self.acked:
            held_up = self.pacing_at is not None or len(self.datagrams_pending) or self.gather_streams()
            if held_up or fast_send.has_more_to_say(self):
                return None
            self.note_idle()
            at = self.get_timer()
        if at is None or at <= now:  # `acked` stays: without it, the timer would stay as well
            return None
        self.acked = False
        return at

    def get_timer(self) -> float | None:
        """aioquic's, without its looks at what only a handshake or another path has."""
        confirmed = self.handshake_confirmed and self.state is QuicConnectionState.CONNECTED
        if not (self._fast and confirmed and self.network_paths[0].is_validated):
            return super().get_timer()
        at, ack_at, pacing_at, tails_at = self.close_at, self.space.ack_at, self.pacing_at, self._tails_at
        if ack_at is not None and (at is None or ack_at < at):
            at = ack_at
        self.loss_at = loss_at = self.loss.get_loss_detection_time(amplification_limited=False)
        if loss_at is not None and (at is None or loss_at < at):
            at = loss_at
        if pacing_at is not None and (at is None or pacing_at < at):
            at = pacing_at
        if tails_at is not None and (at is None or tails_at < at):
            at = tails_at
        return at

    def _size_probe(self, size: int, now: float, on_fate: Callable[[Any], None]) -> list[tuple[bytes, Any]]:
        return apart(fast_send.probe(self, size, now, on_fate))

    def _send_the_rest(self, now: float) -> list[tuple[bytes, Any]]:
        """Send the datagrams that gave way to streams, now that the streams were served."""
        outgoing = self.datagrams_pending
        if outgoing or not len(outgoing):
            return []
        share, outgoing.share = outgoing.share, math.inf
        datagrams = self._write(now)
        outgoing.share = share
        return datagrams

    def note_idle(self) -> None:
        """Note that nothing more is to be sent. If the window has room, the application limits the rate."""
        loss = self.loss
        if self.pacing_at is None and loss.room >= self.max_datagram_size:
            loss.progress.on_limited(loss.bytes_in_flight)

    def serialize_transport_parameters(self) -> bytes:
        """Announce our packet size limit, and our short ACK delay: the peer's probe timeout includes it."""
        parameters = pull_quic_transport_parameters(Buffer(data=super().serialize_transport_parameters()))
        parameters.max_ack_delay = round((MAX_ACK_DELAY + ACK_DELAY_SLACK) * 1000)
        parameters.max_udp_payload_size = LARGEST_RECEIVED
        buffer = Buffer(capacity=3 * self.max_datagram_size)
        push_quic_transport_parameters(buffer, parameters)
        return bytes(buffer.data)

    def initialize(self, peer_cid: bytes) -> None:
        for space in self.loss.spaces:  # after a Retry the handshake starts again
            self.loss.discard_space(space)
        super().initialize(peer_cid)
        self.space = self.spaces[Epoch.ONE_RTT]
        self.space.received_packets = ReceivedPackets(self.arrivals)

    def gather_streams(self) -> list[Any]:
        """The streams with something to send, in the order of service. The caller may reorder the list."""
        queue: list[Any] = self.streams.awake(self.streams_queue)
        if len(queue) > 1:  # those with little to send first: they hardly delay the others
            queue.sort(key=_is_long)
        self.streams_queue = queue
        return queue

    def write_application(self, builder: Any, network_path: Any, now: float) -> None:
        """Write frames as aioquic does, but skip idle streams. While pacing holds data, an ACK goes alone."""
        busy, others = [*self.gather_streams()], []
        self.datagrams_pending.contended = bool(busy)
        if self._ends_only:
            others = [stream for stream in busy if not fast_send.has_end(stream)]
            busy = [stream for stream in busy if fast_send.has_end(stream)]
            self.streams_queue = [*busy]
        if self.probe_pending:
            self.loss.pacer.let_probe()
        held = self.loss.pacer.next_send_time(now)
        if held is not None:
            builder.max_flight_bytes = 0
        self.streams.writing = True
        try:
            super().write_application(builder, network_path, now)
        except QuicPacketBuilderStop:
            self._cut_short = True
            raise
        finally:
            self.streams.writing = False
            if held is not None and self.pacing_at is None:
                self.pacing_at = held
            queue = self.streams_queue
            if queue:  # a stream that retransmits would otherwise stay first until it has sent everything
                queue.append(queue.pop(0))
            queue += others
            self.note_tails(busy, now)


def _is_long(stream: Any) -> bool:
    return not stream.sender.is_short
