"""Loss detection and probe timeouts: RFC 9002, with time as the only proof of loss, as in RACK (RFC 8985).

aioquic declares a packet lost once three later packets have arrived. A network that reorders packets then
looks like a network that loses them. Here a packet is lost when a later one has arrived and this one has not,
although it had a round trip and a reordering window (rtt_estimator.py) to arrive. A packet that arrives after
it was declared lost counts as delivered. Its data is not sent again if it is still in the queue.

What a sender does that hears nothing is in probe_timeout.py.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aioquic.quic.packet_builder import QuicDeliveryState

from lane_quic.configuration import SMALL_DATAGRAM
from lane_quic.congestion import Controller, Sample
from lane_quic.internals.parts import ranges_of
from lane_quic.recovery.delivery_rate import DeliveryRate
from lane_quic.recovery.probe_timeout import ProbeTimeout
from lane_quic.recovery.sent_packets import deliver, take

WINDOW_GAIN = 1.25
"""Pacing rate, in windows a round trip, for controllers that know no rate (RFC 9002 section 7.7)."""
REMEMBERED = 1024
"""Packets declared lost that are kept, so that their late arrival is noticed."""
LATEST = 10.0
"""Seconds without a further loss after which they are forgotten: none will arrive any more."""
ACK_ONLY_PACKETS = 512
"""Packets with only an ACK frame that are kept, with the packet numbers that they acknowledged."""


class Recovery(ProbeTimeout):
    """The packets of one connection, from when they are sent until they are acknowledged or lost."""

    __slots__ = (
        "_ack_only",
        "_in_flight",
        "_lost",
        "_lost_at",
        "_lost_numbers",
        "_newest_sent",
        "acks",
        "controller",
        "large_lost",
        "progress",
        "spurious",
    )

    def __init__(
        self,
        controller: Controller,
        datagram_size: int,
        *,
        validated: bool = True,
        send_probe: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            congestion_control_algorithm="reno",  # never used; dropped below
            datagram_size=datagram_size,
            peer_completed_address_validation=validated,
            send_probe=send_probe,
        )
        self.cc = None
        self.controller = controller
        self.progress = DeliveryRate()
        self.spurious = 0
        """Packets that arrived after they were declared lost."""
        self.acks = 0
        """ACK frames that acknowledged something new."""
        self.large_lost = 0
        """Packets larger than `SMALL_DATAGRAM` that were lost since one of them arrived."""
        self._in_flight = 0
        self._newest_sent = 0.0  # when the newest acknowledged packet was sent
        self._ack_only: list[int] = []  # numbers of the newest packets with only an ACK frame
        self._lost: dict[int, Any] = {}  # declared lost, by number; the spaces share the numbers
        self._lost_numbers: list[int] = []  # these numbers, sorted
        self._lost_at = 0.0  # when the last one was declared lost

    # Called by aioquic.

    @property
    def bytes_in_flight(self) -> int:
        """Bytes sent, and neither acknowledged nor lost yet."""
        return self._in_flight

    @property
    def congestion_window(self) -> int:
        """Bytes that may be in flight."""
        return self.controller.window

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return self.controller.window - self._in_flight

    def on_packet_sent(self, *, packet: Any, space: Any) -> None:
        """Record a packet that is sent."""
        space.sent_packets[packet.packet_number] = packet
        if packet.is_ack_eliciting:
            space.ack_eliciting_in_flight += 1
        self.pacer.charge(packet.sent_bytes if packet.in_flight else 0)
        if not packet.in_flight:
            self._remember_ack_only(packet, space)
            return
        if packet.is_ack_eliciting and (self.handshake_confirmed or not space.is_application_data):
            self.time_of_last_sent_ack_eliciting_packet = packet.sent_time
        self.progress.on_sent(packet, self._in_flight)
        self.controller.on_sent(packet, self._in_flight)
        self._in_flight += packet.sent_bytes

    def on_packets_sent(self, packets: Sequence[Any], space: Any, now: float) -> None:
        """Record packets that are sent together. One of them may hold only an ACK frame."""
        before = in_flight = self._in_flight
        sent, controller, state = space.sent_packets, self.controller, None
        for packet in packets:
            sent[packet.packet_number] = packet
            if packet.is_ack_eliciting:
                space.ack_eliciting_in_flight += 1
                self.time_of_last_sent_ack_eliciting_packet = now
            if packet.in_flight:
                if state is None:
                    self.progress.on_sent(packet, in_flight)
                    state = packet.sent_state
                packet.sent_state = state
                controller.on_sent(packet, in_flight)
                in_flight += packet.sent_bytes
            else:
                self._remember_ack_only(packet, space)
        self._in_flight = in_flight
        self.pacer.charge(in_flight - before)

    def _remember_ack_only(self, packet: Any, space: Any) -> None:
        """Keep only the newest packets with just an ACK frame: the peer may acknowledge none of them."""
        if packet.is_ack_eliciting or not space.is_application_data:
            return
        self._ack_only.append(packet.packet_number)
        if len(self._ack_only) > ACK_ONLY_PACKETS:
            space.sent_packets.pop(self._ack_only.pop(0), None)

    def on_ack_received(self, *, ack_rangeset: Any, ack_delay: float, now: float, space: Any) -> None:
        """Record the packets that the peer acknowledges. Called by aioquic."""
        self.on_ack(ranges_of(ack_rangeset), ack_delay, now, space)

    def on_ack(self, ranges: list[range], ack_delay: float, now: float, space: Any) -> None:
        """Record the packets that the peer acknowledges. `ranges` of their numbers are sorted."""
        largest = ranges[-1].stop - 1
        overtaken_before = space.largest_acked_packet
        if largest > overtaken_before:
            space.largest_acked_packet = largest
        acked = take(space.sent_packets, ranges, overtaken_before)
        late = self._take_late(ranges, now) if self._lost else []
        if not acked and not late:
            return
        eliciting, flying, newest = False, [], acked[-1] if acked else late[-1]
        if late:
            eliciting = any(packet.is_ack_eliciting for packet in late)
            newest = max(newest, late[-1], key=lambda packet: packet.packet_number)
        if self.large_lost and any(packet.sent_bytes > SMALL_DATAGRAM for packet in acked):
            self.large_lost = 0
        for packet in acked:
            if packet.is_ack_eliciting:
                eliciting = True
                space.ack_eliciting_in_flight -= 1
            if packet.in_flight:
                self._in_flight -= packet.sent_bytes
                flying.append(packet)
        for packet in late:
            self.progress.arrived_late(packet)
        self._add_lateness(acked, overtaken_before, late, now)
        if newest.sent_time >= self._newest_sent:
            self._newest_sent, self._newest_rtt = newest.sent_time, now - newest.sent_time
        rtt = None
        if newest.packet_number == largest and eliciting:
            rtt = self._add_rtt(now, now - newest.sent_time, ack_delay)
        self._count(len(flying), 0)
        sample = self.progress.sample(now, flying, self.rtt_min, rtt)
        # aioquic's CRYPTO streams fail if data that was declared lost is acknowledged.
        deliver([*acked, *(packet for packet in late if not packet.is_crypto_packet)] if late else acked)
        self._find_lost(now, space, sample)
        self.acks += 1
        self._heard()
        if self.peer_completed_address_validation:
            self.pto_count = 0

    def get_loss_detection_time(self, *, amplification_limited: bool) -> float | None:
        """aioquic's. Once the handshake is confirmed, only one space is left."""
        if not self.handshake_confirmed:
            return super().get_loss_detection_time(amplification_limited=amplification_limited)
        space = self.spaces[-1]
        if space.loss_time is not None:
            at: float = space.loss_time
            return at
        if amplification_limited or not space.ack_eliciting_in_flight:
            return None
        return self._probe_time()

    def on_loss_detection_timeout(self, *, now: float) -> None:
        """Act on the timer of `get_loss_detection_time`."""
        space = self.get_loss_space()
        if space is None:
            self._probe(now)
        else:
            self._find_lost(now, space, Sample(now))

    def discard_space(self, space: Any) -> None:
        """Forget a packet number space whose keys were discarded."""
        self._in_flight -= sum(p.sent_bytes for p in space.sent_packets.values() if p.in_flight)
        space.sent_packets.clear()
        space.ack_at = space.loss_time = None
        space.ack_eliciting_in_flight = 0
        self.pto_count = 0

    def start_anew(self, controller: Controller) -> None:
        """Forget the round-trip time and the rate: the path is another one now. Packets stay in flight."""
        self.controller, self.pacer.rate = controller, None
        self._forget_rtt()
        self.pto_count = self._followers = self.large_lost = 0

    def let_go(self) -> None:
        """Forget all packets, and the connection, which has ended."""
        self.send_probe = _nothing
        for remembered in (self._ack_only, self._lost, self._lost_numbers):
            remembered.clear()

    # Loss detection.

    def _find_lost(self, now: float, space: Any, sample: Sample) -> None:
        """Declare overdue packets lost. Complete `sample` with them and hand it to the controller."""
        patience = self._newest_rtt + self.reordering_window
        overdue = []
        space.loss_time = None
        for packet in space.sent_packets.values():
            if packet.sent_time > self._newest_sent or packet.packet_number > space.largest_acked_packet:
                break
            if packet.sent_time + patience > now:
                space.loss_time = packet.sent_time + patience
                break
            overdue.append(packet)
        if overdue:
            sample.persistent = self.in_persistent_congestion(packets=[p for p in overdue if p.in_flight])
        sample.dropped = self._drop(overdue, space, now)
        sample.delivered, sample.lost = self.progress.delivered, self.progress.lost
        sample.received = self.progress.received
        sample.in_flight = self._in_flight
        self._decide(sample)

    def _decide(self, sample: Sample) -> None:
        controller = self.controller
        controller.on_sample(sample)
        rate = controller.pacing_rate
        if rate is None and self.rtt_initialized:
            rate = WINDOW_GAIN * controller.window / self.rtt_smoothed
        self.pacer.rate = None if rate is None else min(rate, self.pacer.most)

    def on_packets_lost(
        self,
        *,
        congestion_event: bool = True,
        now: float,
        packets: Iterable[Any],
        persistent_congestion: bool = False,
        space: Any,
    ) -> None:
        """Send the packets again that a probe timeout chose.

        They count as lost until they arrive. The controller is not told: a timeout proves no loss.
        """
        self._drop([*packets], space, now)

    def _drop(self, packets: list[Any], space: Any, now: float) -> list[Any]:
        """Queue the content of `packets` for retransmission. Return the packets that were in flight."""
        flying = []
        if packets:
            self._lost_at = now
        for packet in packets:
            del space.sent_packets[packet.packet_number]
            if packet.is_ack_eliciting:
                space.ack_eliciting_in_flight -= 1
            if packet.in_flight:
                flying.append(packet)
                self._in_flight -= packet.sent_bytes
                self.progress.lost += packet.sent_bytes
                self.large_lost += packet.sent_bytes > SMALL_DATAGRAM
                self._remember(packet)
            for handler, arguments in packet.delivery_handlers:
                handler(QuicDeliveryState.LOST, *arguments)
        self._count(len(flying), len(flying))
        return flying

    def _remember(self, packet: Any) -> None:
        self._lost[packet.packet_number] = packet
        insort(self._lost_numbers, packet.packet_number)
        if len(self._lost) > REMEMBERED:
            del self._lost[self._lost_numbers.pop(0)]

    def _take_late(self, ranges: list[range], now: float) -> list[Any]:
        """Remove and return the packets that were declared lost and are acknowledged now, oldest first."""
        numbers, found = self._lost_numbers, []
        if now - self._lost_at > LATEST:
            self._lost.clear()
            numbers.clear()
        for r in ranges:
            if not numbers or r.start > numbers[-1]:
                break
            low = bisect_left(numbers, r.start)
            if numbers[low] < r.stop:
                high = bisect_left(numbers, r.stop, low)
                found += [self._lost.pop(number) for number in numbers[low:high]]
                del numbers[low:high]
        self.spurious += len(found)
        self._lost_recently = max(0.0, self._lost_recently - len(found))
        return found


def _nothing() -> None:
    pass
