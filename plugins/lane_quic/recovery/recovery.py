"""Which packets are lost, and when to ask again: RFC 9002 where the network keeps the order, RACK where not.

aioquic takes three later packets that arrived for a proof of loss, and networks that reorder then look
like networks that lose. Here only time proves it, as in RACK (RFC 8985): a packet is lost when one that
was sent later has arrived and this one has not, although it had a round trip and a reordering window for
it. The window is an eighth of the round trip (RFC 9002 section 6.1.2) and widens to what was measured: how
much later than that packets came that others had overtaken, those already declared lost included. What
was declared lost and arrives all the same counts as delivered, and is not sent again if it still waits.

The probe timeout takes the variation from the smoothed round trip, as RFC 9002 section 5.3 has it (aioquic
takes it from the smallest, and waits longer beside a queue), sends up to two packets again, and does not
double without bound.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aioquic.quic.packet_builder import QuicDeliveryState

from lane_quic.configuration import SMALL_DATAGRAM
from lane_quic.congestion import Controller, Sample
from lane_quic.internals.parts import PacketRecovery
from lane_quic.recovery.delivery_rate import DeliveryRate
from lane_quic.recovery.pacer import Pacer
from lane_quic.recovery.sent_packets import deliver, take

GRANULARITY = 0.001
"""Seconds: what timers and the peer's timestamps can tell apart (RFC 9002 section 6.1.2)."""
SMALLEST_RTT = 0.0001
"""Seconds: what is shorter is taken for this."""
INITIAL_RTT = 0.1
"""Seconds assumed before the first sample."""
WINDOW_GAIN = 1.25
"""Pacing above one window a round trip, for controllers that know no rate (RFC 9002 section 7.7)."""
PROBES = 2
"""Packets that a probe timeout sends again, at most (RFC 9002 section 6.2.4)."""
LEAST_DOUBLINGS, LONGEST_BACKOFF = 2, 0.5
"""How often the probe timeout doubles, at least, and up to how many seconds otherwise. RFC 9002 sets no
bound; but where losses come in long bursts it reaches a minute, and a few packets a second harm nobody."""
REMEMBERED = 1024
"""Packets declared lost whose late arrival is still noticed."""
BARE_PACKETS = 512
"""Packets with nothing but an ACK of which it is remembered what they acknowledged."""
FORGET_ROUNDS = 64
"""Round trips without reordering after which the reordering window is halved."""
RECENT = 512
"""Packets over which the recent loss is counted, roughly."""


class Recovery(PacketRecovery):
    """The packets of one connection, from when they leave until they are acknowledged or lost."""

    __slots__ = (
        "_bare",
        "_in_flight",
        "_known_recently",
        "_late",
        "_late_at",
        "_lost",
        "_lost_recently",
        "_newest_lost",
        "_newest_rtt",
        "_newest_sent",
        "acks",
        "controller",
        "counted",
        "large_lost",
        "progress",
        "spurious",
        "timeouts",
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
            congestion_control_algorithm="reno",  # never asked, and dropped below
            initial_rtt=INITIAL_RTT,
            max_datagram_size=datagram_size,
            peer_completed_address_validation=validated,
            send_probe=send_probe,
        )
        self.cc = None
        self.controller = controller
        self.progress = DeliveryRate()
        self.pacer = Pacer(datagram_size)
        self.spurious = 0
        """Packets that were declared lost and arrived."""
        self.acks = 0
        """Acknowledgements that told something new."""
        self.timeouts = 0
        """Probe timeouts in a row, since an acknowledgement came."""
        self.large_lost = 0
        """Packets larger than every path carries that were lost since one arrived."""
        self._in_flight = 0
        self._newest_sent = 0.0  # when the newest packet left that was acknowledged
        self._newest_rtt = INITIAL_RTT
        self._late = 0.0  # seconds after its deadline that the latest overtaken packet came
        self._late_at = 0.0
        self._newest_lost = -1
        self._bare: list[int] = []  # numbers of the last packets with nothing but an ACK
        self._lost: dict[int, Any] = {}  # declared lost, by number; the spaces share the numbers
        self.counted = 0
        """Packets whose fate is known: what `recent_loss` stands on."""
        self._known_recently = self._lost_recently = 0.0

    # What aioquic asks.

    @property
    def bytes_in_flight(self) -> int:
        """Bytes sent and neither acknowledged nor lost."""
        return self._in_flight

    @property
    def congestion_window(self) -> int:
        """Bytes that may be in flight."""
        return self.controller.window

    @property
    def rtt(self) -> float | None:
        """Smoothed round trip, seconds; None before the first sample."""
        return self.rtt_smoothed if self.rtt_initialized else None

    @property
    def least_rtt(self) -> float:
        """The shortest round trip, seconds."""
        return self.rtt_min

    @property
    def recent_loss(self) -> float:
        """Fraction of the last few hundred packets that was lost."""
        return self._lost_recently / max(self._known_recently, 1.0)

    @property
    def reordering_window(self) -> float:
        """Seconds that a packet may be overtaken by, and still come."""
        if not self.rtt_initialized:
            return INITIAL_RTT / 8
        longest = max(self.rtt_smoothed, self._newest_rtt)
        return min(max(self.rtt_min / 8, GRANULARITY, self._late * 1.25 + GRANULARITY), longest)

    def on_packet_sent(self, *, packet: Any, space: Any) -> None:
        """A packet leaves."""
        space.sent_packets[packet.packet_number] = packet
        if packet.is_ack_eliciting:
            space.ack_eliciting_in_flight += 1
        self.pacer.charge(packet.sent_bytes if packet.in_flight else 0)
        if not packet.in_flight:
            self._remember_bare(packet, space)
            return
        if packet.is_ack_eliciting and (self.handshake_confirmed or not space.is_application_data):
            self.time_of_last_sent_ack_eliciting_packet = packet.sent_time
        self.progress.on_sent(packet, self._in_flight)
        self.controller.on_sent(packet, self._in_flight)
        self._in_flight += packet.sent_bytes

    def on_packets_sent(self, packets: Sequence[Any], space: Any, now: float) -> None:
        """Packets of a bulk leave together; one of them may hold nothing but an ACK."""
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
                self._remember_bare(packet, space)
        self._in_flight = in_flight
        self.pacer.charge(in_flight - before)

    def _remember_bare(self, packet: Any, space: Any) -> None:
        """A packet with nothing but an ACK leaves: a peer that acknowledges nothing has us keep only some."""
        if packet.is_ack_eliciting or not space.is_application_data:
            return
        self._bare.append(packet.packet_number)
        if len(self._bare) > BARE_PACKETS:
            space.sent_packets.pop(self._bare.pop(0), None)

    def on_ack_received(self, *, ack_rangeset: Any, ack_delay: float, now: float, space: Any) -> None:
        """The peer has received packets."""
        largest = ack_rangeset.bounds().stop - 1
        overtaken_before = space.largest_acked_packet
        if largest > overtaken_before:
            space.largest_acked_packet = largest
        acked = take(space.sent_packets, ack_rangeset, overtaken_before)
        late = self._take_late(ack_rangeset) if self._lost else []
        if not acked and not late:
            return
        eliciting = any(packet.is_ack_eliciting for packet in late)
        flying = []
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
        self._measure_lateness(acked, overtaken_before, late, now)
        newest = max(acked[-1:] + late[-1:], key=lambda packet: packet.packet_number)
        if newest.sent_time >= self._newest_sent:
            self._newest_sent, self._newest_rtt = newest.sent_time, now - newest.sent_time
        rtt = None
        if newest.packet_number == largest and eliciting:
            rtt = self._measure(now, now - newest.sent_time, ack_delay)
        self._count(len(flying), 0)
        sample = self.progress.sample(now, flying, self.rtt_min, rtt)
        # aioquic's own streams (CRYPTO) can't bear an acknowledgement of what was lost.
        deliver([*acked, *(packet for packet in late if not packet.is_crypto_packet)] if late else acked)
        self._find_lost(now, space, sample)
        self.acks += 1
        self.timeouts = 0
        if self.peer_completed_address_validation:
            self.pto_count = 0

    def on_loss_detection_timeout(self, *, now: float) -> None:
        """The timer for `get_loss_detection_time` fired."""
        space = self.get_loss_space()
        if space is None:
            self.timeouts += 1
            longer = 2 ** (self.pto_count + 1) * self.get_probe_timeout()
            if self.pto_count < LEAST_DOUBLINGS or longer <= LONGEST_BACKOFF:
                self.pto_count += 1
            for _ in range(PROBES):
                self.reschedule_data(now=now)
        else:
            self._find_lost(now, space, Sample(now))

    def get_probe_timeout(self, *, include_max_ack_delay: bool = True) -> float:
        """See RFC 9002 section 6.2.1."""
        if not self.rtt_initialized:
            return 2 * self.rtt_initial
        delay = self.max_ack_delay if include_max_ack_delay else 0.0
        return self.rtt_smoothed + max(4 * self.rtt_variance, GRANULARITY) + delay

    def discard_space(self, space: Any) -> None:
        """The keys of a packet number space are gone."""
        self._in_flight -= sum(p.sent_bytes for p in space.sent_packets.values() if p.in_flight)
        space.sent_packets.clear()
        space.ack_at = space.loss_time = None
        space.ack_eliciting_in_flight = 0
        self.pto_count = 0

    def start_anew(self, controller: Controller) -> None:
        """Another path: forget round trips and rates. What is under way stays so."""
        self.controller, self.pacer.rate = controller, None
        self.rtt_initialized = False
        self._newest_rtt, self._late = INITIAL_RTT, 0.0
        self.pto_count = self.large_lost = 0

    # Measuring.

    def _measure(self, now: float, latest: float, ack_delay: float) -> float:
        """Take one round trip (seconds) into the estimates: what it was without the peer's delay."""
        latest = max(latest, SMALLEST_RTT)
        if not self.rtt_initialized:
            self.rtt_initialized, self.rtt_first_sample_time = True, now
            self.rtt_min = self.rtt_smoothed = self.rtt_latest = latest
            self.rtt_variance = latest / 2
            return latest
        self.rtt_min = min(self.rtt_min, latest)
        ack_delay = min(ack_delay, self.max_ack_delay)
        if latest >= self.rtt_min + ack_delay:
            latest -= ack_delay
        self.rtt_latest = latest
        self.rtt_variance += (abs(self.rtt_smoothed - latest) - self.rtt_variance) / 4
        self.rtt_smoothed += (latest - self.rtt_smoothed) / 8
        return latest

    def _measure_lateness(self, acked: list[Any], overtaken_before: int, late: list[Any], now: float) -> None:
        """How long after its turn an overtaken packet came, with the round trip of what overtook it."""
        if not self.rtt_initialized:
            return
        worst = 0.0
        for packets in (acked, late):
            for packet in packets:
                if packet.packet_number > overtaken_before:
                    break
                worst = max(worst, now - packet.sent_time - self._newest_rtt)
        if worst > 0:
            if worst >= self._late / 2:
                self._late_at = now
            self._late = max(self._late, min(worst, self.rtt_smoothed))
        elif now - self._late_at > FORGET_ROUNDS * self.rtt_smoothed:
            self._late, self._late_at = self._late / 2, now

    # Losing.

    def _find_lost(self, now: float, space: Any, sample: Sample) -> None:
        """Declare lost what is overdue, and tell the controller about it and about `sample`."""
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
        sample.persistent = self.in_persistent_congestion(packets=[p for p in overdue if p.in_flight])
        sample.dropped = self._drop(overdue, space)
        sample.delivered, sample.lost = self.progress.delivered, self.progress.lost
        sample.in_flight = self._in_flight
        self._decide(sample)

    def _decide(self, sample: Sample) -> None:
        controller = self.controller
        controller.on_sample(sample)
        rate = controller.pacing_rate
        if rate is None and self.rtt_initialized:
            rate = WINDOW_GAIN * controller.window / self.rtt_smoothed
        self.pacer.rate = rate

    def on_packets_lost(
        self,
        *,
        congestion_event: bool = True,
        now: float,
        packets: Iterable[Any],
        persistent_congestion: bool = False,
        space: Any,
    ) -> None:
        """Send again what a probe timeout chose. It counts as lost until it arrives after all, but the
        controller is not told of a loss: the timeout proves none."""
        self._drop([*packets], space)

    def _drop(self, packets: list[Any], space: Any) -> list[Any]:
        """Have what was in `packets` sent again. Those of them that were in flight."""
        flying = []
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

    def _count(self, known: int, lost: int) -> None:
        """Take the fate of so many packets into `recent_loss`."""
        self.counted += known
        self._known_recently += known
        self._lost_recently += lost
        if self._known_recently > RECENT:
            self._known_recently /= 2
            self._lost_recently /= 2

    def _remember(self, packet: Any) -> None:
        self._lost[packet.packet_number] = packet
        self._newest_lost = max(self._newest_lost, packet.packet_number)
        if len(self._lost) > REMEMBERED:
            del self._lost[next(iter(self._lost))]

    def _take_late(self, ack_rangeset: Any) -> list[Any]:
        """The packets declared lost that have arrived."""
        if ack_rangeset[0].start > self._newest_lost:
            return []
        found = take(self._lost, ack_rangeset, self._newest_lost)
        self.spurious += len(found)
        self._lost_recently = max(0.0, self._lost_recently - len(found))
        return found
