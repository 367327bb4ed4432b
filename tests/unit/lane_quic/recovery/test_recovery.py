"""Loss detection against a model of it: any schedule of packets, ACKs (true, repeated, of packets never
sent) and timers keeps the books right, nothing is lost before its time, and what comes late is made good.
Then, to the digit, the times that retransmissions wait for. Rates are in test_pacer.py."""

from collections import Counter
from unittest import mock

import pytest
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.tls import Epoch
from hypothesis import example, given
from hypothesis import strategies as st
from lane_quic.recovery import probe_timeout
from lane_quic.recovery import recovery as module
from lane_quic.recovery.recovery import Recovery
from lane_quic.recovery.rtt_estimator import FORGET_ROUNDS, GRANULARITY, INITIAL_RTT

ACKED, LOST = QuicDeliveryState.ACKED, QuicDeliveryState.LOST
SIZE, RTT = 1200, 0.1


class Line:
    """A recovery with two packet number spaces, a clock, and what handlers and controller were told."""

    def __init__(self):
        self.window, self.pacing_rate = 100_000, None
        self.samples, self.probes, self.now = [], [], 100.0
        self.packets, self.fates = [], []
        self.recovery = Recovery(self, SIZE, send_probe=lambda: self.probes.append(self.now))
        self.handshake, self.space = QuicPacketSpace(), QuicPacketSpace(is_application_data=True)
        self.recovery.spaces = [self.handshake, self.space]
        self.recovery.handshake_confirmed = True

    def on_sent(self, packet, in_flight):
        assert in_flight == self.recovery.bytes_in_flight

    def on_sample(self, sample):
        self.samples.append(sample)

    def send(self, size=SIZE, *, eliciting=True, flying=True, crypto=False, space=None):
        """One packet: its number."""
        fate, number = [], len(self.packets)
        packet = QuicSentPacket(
            Epoch.ONE_RTT, flying, eliciting, crypto, number, QuicPacketType.ONE_RTT, self.now, size,
            [(fate.append, ())],
        )  # fmt: skip
        self.packets.append(packet)
        self.fates.append(fate)
        self.recovery.on_packet_sent(packet=packet, space=space or self.space)
        return number

    def ack(self, *numbers, delay=0.0, space=None):
        """An ACK of single numbers or of ranges."""
        ranges = RangeSet(n if isinstance(n, range) else range(n, n + 1) for n in numbers)
        told = {"ack_rangeset": ranges, "ack_delay": delay, "now": self.now}
        self.recovery.on_ack_received(**told, space=space or self.space)

    @property
    def timer(self):
        return self.recovery.get_loss_detection_time(amplification_limited=False)

    def fire(self, at=None):
        """The timer, when it is due or at another time."""
        self.now = self.timer if at is None else at
        self.recovery.on_loss_detection_timeout(now=self.now)

    def measure(self, rtt=RTT, times=1, delay=0.0):
        """Round trips of `rtt` seconds."""
        for _ in range(times):
            number = self.send()
            self.now += rtt
            self.ack(number, delay=delay)

    @property
    def lost(self):
        return [number for number, fate in enumerate(self.fates) if LOST in fate]


@pytest.fixture
def line():
    return Line()


# The books, whatever happens.

KINDS = [{}, {}, {}, {"eliciting": False}, {"crypto": True}, {"eliciting": False, "flying": False}]
RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), min_size=1, max_size=4)
STEP = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 8), st.sampled_from(KINDS), st.integers(40, SIZE)),
    st.tuples(st.just("ack"), RANGES, st.booleans(), st.sampled_from([0.0, 0.004, 9.0])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.01, 0.05, 0.3, 20.0])),
    st.sampled_from([("timer",), ("probe",)]),
)


class Auditor(Line):
    """Takes random steps, and knows from its own books what must have come of them."""

    def __init__(self):
        super().__init__()
        self.acknowledged, self.arrived = set(), set()
        self.quickest, self.newest, self.highest = 1e9, -1.0, -1

    def step(self, kind, *details):
        lost_before, probed, told = set(self.lost), False, len(self.samples)
        match kind:
            case "send":
                count, flags, size = details
                for _ in range(count):
                    self.send(size, **flags)
            case "ack":
                self.acknowledge(*details)
            case "wait":
                self.now += details[0]
            case "timer" if self.timer is not None:
                probed = self.space.loss_time is None
                self.fire(max(self.now, self.timer))
            case "probe":
                probed = True
                self.recovery.reschedule_data(now=self.now)
        self.audit(set(self.lost) - lost_before, probed, self.samples[told:])

    def acknowledge(self, ranges, foreign=False, delay=0.0):
        top = len(self.packets)
        found = [range(max(0, top - back), max(0, top - back) + size) for back, size in ranges]
        found = [cut for r in found if (cut := range(r.start, min(r.stop, top)))]
        numbers = {n for r in found for n in r}
        late = self.recovery._lost if self.now - self.recovery._lost_at <= module.LATEST else ()
        known = {n for n in numbers if not self.fates[n] or n in late}
        for packet in (self.packets[n] for n in known):
            self.quickest = min(self.quickest, self.now - packet.sent_time)
            self.newest = max(self.newest, packet.sent_time)
        self.acknowledged |= numbers
        self.arrived |= {n for n in known if self.packets[n].in_flight}
        if foreign:
            found.append(range(top + 50, top + 2**60))
        if found:
            self.highest = max(self.highest, *(r.stop - 1 for r in found))
            self.ack(*found, delay=delay)

    def audit(self, newly_lost, probed, samples):
        """`newly_lost`, and `samples` for the controller, came of the last step, which may have `probed`."""
        recovery, out = self.recovery, [p for p in self.packets if not self.fates[p.packet_number]]
        assert recovery.bytes_in_flight == sum(p.sent_bytes for p in out if p.in_flight) >= 0
        assert self.space.ack_eliciting_in_flight == sum(p.is_ack_eliciting for p in out)
        assert list(self.space.sent_packets) == [p.packet_number for p in out]
        for packet, fate in zip(self.packets, self.fates, strict=True):
            assert fate in ([], [ACKED], [LOST], [LOST, ACKED][: 1 if packet.is_crypto_packet else 2])
            assert ACKED not in fate or packet.packet_number in self.acknowledged
        if not probed:
            for packet in (self.packets[n] for n in newly_lost):
                assert packet.sent_time <= self.newest, "nothing that was sent later has arrived"
                assert packet.packet_number < self.highest
                assert self.now - packet.sent_time >= self.quickest, "it had no round trip"
        assert all([*s.acked] == sorted(s.acked, key=lambda p: p.packet_number) for s in samples)
        told = {p.packet_number for sample in samples for p in sample.dropped}
        assert told == (set() if probed else {n for n in newly_lost if self.packets[n].in_flight})
        assert not samples or samples[-1].in_flight == recovery.bytes_in_flight
        assert len(recovery._lost) <= module.REMEMBERED
        assert recovery.progress.delivered == sum(self.packets[n].sent_bytes for n in self.arrived)
        missing = [self.packets[n] for n in self.lost if n not in self.arrived]
        assert recovery.progress.lost == sum(p.sent_bytes for p in missing if p.in_flight) >= 0


@given(st.lists(STEP, min_size=20, max_size=60), st.sampled_from([3, module.REMEMBERED]))
def test_the_books_are_right_after_any_schedule(steps, remembered):
    with mock.patch.object(module, "REMEMBERED", remembered):
        line = Auditor()
        for step in steps:
            line.step(*step)
        line.recovery._lost_at = line.now
        known = {n for n, fate in enumerate(line.fates) if not fate} | set(line.recovery._lost)
        line.acknowledge([(len(line.packets), len(line.packets))])
        line.audit(set(), False, [])
    assert all(ACKED in line.fates[n] or line.packets[n].is_crypto_packet for n in known)
    assert {*Counter(p.packet_number for sample in line.samples for p in sample.acked).values()} <= {1}
    assert line.space.sent_packets == line.recovery._lost == {}
    assert line.timer is None


# What is lost, and when.


def overtake(line, count=2):
    """So many packets, a millisecond apart, of which only the last arrives: their numbers."""
    first = len(line.packets)
    for _ in range(count):
        line.now += 0.001
        line.send()
    line.now += RTT
    line.ack(first + count - 1)
    return [*range(first, first + count)]


def overdue(line, number):
    """Seconds from when the timer fires to when `number` had a round trip."""
    return line.timer - line.packets[number].sent_time - RTT


def test_packets_that_were_overtaken_are_lost_when_they_are_overdue_and_not_before(line):
    line.measure()
    numbers = overtake(line, 4)
    assert line.lost == []
    assert overdue(line, numbers[0]) == pytest.approx(RTT / 8)
    line.fire(line.timer - 1e-6)
    assert line.lost == []
    line.fire()
    assert line.lost == numbers[:1]
    assert overdue(line, numbers[1]) == pytest.approx(RTT / 8)
    line.ack(range(numbers[1], numbers[1] + 1), range(numbers[3], numbers[3] + 1))
    line.fire()
    assert line.lost == [numbers[0], numbers[2]]
    assert [p.packet_number for s in line.samples for p in s.dropped] == line.lost
    batch = [line.send(), line.send()]
    line.now += RTT
    line.ack(batch[0])
    assert line.space.loss_time is None, "who left at the same time was not overtaken"


def test_lost_packets_are_forgotten_when_none_will_arrive_any_more(line):
    line.measure()
    first, second = overtake(line)
    line.fire()
    line.measure()
    assert [*line.recovery._lost] == line.recovery._lost_numbers == [first]
    line.now += module.LATEST
    line.ack(range(first, second + 1))
    assert (line.fates[first], line.recovery.spurious) == ([LOST], 0)
    assert ({*line.recovery._lost}, line.recovery._lost_numbers) == (set(), [])


@pytest.mark.parametrize(("late", "window"), [(0.03, 0.0385), (0.06, 0.076), (9, RTT)])
def test_a_late_arrival_is_no_loss_and_widens_the_reordering_window(line, late, window):
    line.measure()
    first, second = overtake(line)
    line.fire()
    recovery, before = line.recovery, line.recovery.progress.delivered
    assert (line.lost, recovery.progress.lost, recovery.spurious) == ([first], SIZE, 0)
    assert recovery.recent_loss == pytest.approx(1 / 3)
    line.now = line.packets[first].sent_time + RTT + late
    line.ack(range(first, second + 1))
    assert line.fates[first] == [LOST, ACKED]
    assert (recovery.progress.lost, recovery.progress.delivered) == (0, before + SIZE)
    assert (recovery.spurious, recovery.recent_loss) == (1, 0)
    assert overdue(line, overtake(line)[0]) == pytest.approx(window)


def test_the_reordering_window_shrinks_when_nothing_is_reordered_any_more(line):
    line.measure()
    first, second = overtake(line)
    line.now += 30
    line.ack(range(first, second + 1))
    wide = line.recovery.reordering_window
    line.measure(times=FORGET_ROUNDS - 1)
    assert line.recovery.reordering_window == pytest.approx(wide) == pytest.approx(RTT)
    line.measure(times=2)
    assert line.recovery.reordering_window == pytest.approx(1.25 * RTT / 2 + GRANULARITY)
    line.measure(times=5 * FORGET_ROUNDS)
    assert line.recovery.reordering_window == pytest.approx(RTT / 8)


def test_acknowledgements_that_go_backwards_change_nothing(line):
    first, last = overtake(line)
    line.ack(range(first, last + 1))
    before = line.recovery.rtt, line.recovery.reordering_window, len(line.samples)
    line.now += 1
    line.ack(first)
    assert (line.recovery.rtt, line.recovery.reordering_window, len(line.samples)) == before


@pytest.mark.parametrize("spread", [2.9, 3.1])
def test_losses_over_three_probe_timeouts_are_told_as_persistent_congestion(line, spread):
    line.measure(times=30)
    timeout = line.recovery.get_probe_timeout()
    line.now += 0.001
    for _ in range(4):
        line.send()
        line.now += spread * timeout / 3
    line.measure()
    assert list(line.samples[-1].dropped) == line.packets[-5:-1]
    assert line.samples[-1].persistent == (spread > 3)


@pytest.mark.parametrize("ranges", [[range(2**60)], [range(n, n + 1) for n in range(0, 2000, 2)]])
def test_hostile_acknowledgements_cost_what_is_there_and_not_what_they_say(line, ranges):
    """To look at each of 2**60 numbers would take centuries: this ends."""
    for _ in range(6):
        line.send()
    line.ack(*ranges)
    assert line.recovery.bytes_in_flight == SIZE * (0 if len(ranges) == 1 else 3)


def test_a_discarded_space_leaves_the_other_alone(line):
    line.send(900, crypto=True, space=line.handshake)
    line.fire()
    line.send(900, crypto=True, space=line.handshake)
    line.send(40, eliciting=False, flying=False, space=line.handshake)
    kept = line.send(700)
    space = line.handshake
    space.loss_time = space.ack_at = line.now
    line.recovery.discard_space(space)
    assert (line.recovery.bytes_in_flight, line.recovery._pto_count) == (700, 0)
    assert (space.sent_packets, space.ack_eliciting_in_flight) == ({}, 0)
    assert (space.loss_time, space.ack_at) == (None, None)
    assert list(line.space.sent_packets) == [kept]


def test_a_probe_timeout_sends_two_packets_again_and_tells_of_no_loss(line):
    line.measure()
    line.recovery._count(500, 0)
    numbers, told = [line.send() for _ in range(5)], len(line.samples)
    assert line.timer == pytest.approx(line.now + line.recovery.get_probe_timeout())
    line.fire()
    assert (line.lost, len(line.probes), len(line.samples)) == (numbers[:2], 2, told)
    assert line.recovery.bytes_in_flight == 3 * SIZE
    assert line.timer == pytest.approx(line.packets[-1].sent_time + 2 * line.recovery.get_probe_timeout())
    line.ack(numbers[1], numbers[4])
    assert [p.packet_number for p in line.samples[told].acked] == numbers[4:]
    assert line.fates[numbers[1]] == [LOST, ACKED]
    assert line.recovery._pto_count == 0


@pytest.mark.parametrize(
    ("lost", "longest"), [(0, probe_timeout.LONGEST_BACKOFF), (4, probe_timeout.LOSSY_BACKOFF)]
)
def test_probe_timeouts_double_up_to_a_bound_that_is_lower_on_a_lossy_path(line, lost, longest):
    line.measure(rtt=0.03, times=20)
    line.recovery._count(5000, 50 * lost)
    line.send()
    timeout = line.recovery.get_probe_timeout()
    while line.recovery.timeouts < probe_timeout.LOSSY_TIMEOUTS:
        line.fire()
        line.send()
    assert timeout * 2**line.recovery._pto_count <= max(longest, 4 * timeout * (not lost))
    assert line.recovery._pto_count > 0, timeout


def test_on_a_lossy_path_more_packets_follow_a_probe_timeout_until_something_is_heard(line):
    line.measure(times=20)
    line.recovery._count(5000, 200)
    line.recovery.pacer.rate = rate = 4e6
    numbers = [line.send() for _ in range(20)]
    line.fire()
    for _ in range(probe_timeout.FOLLOWERS - 1):
        sent = line.packets[line.send()].sent_time
        assert line.timer == pytest.approx(
            sent + probe_timeout.FOLLOWER_GAP * line.recovery.pacer.datagram_size / rate
        )
        line.fire()
    assert (line.recovery.timeouts, len(line.lost)) == (1, probe_timeout.PROBES + probe_timeout.FOLLOWERS - 1)
    line.ack(numbers[19])
    line.send()
    assert line.timer > line.now + probe_timeout.FOLLOWER_PAUSE
    assert line.recovery.timeouts == 0


def test_an_answer_to_what_a_probe_timeout_had_given_up_is_a_round_trip(line):
    number = line.send()
    assert line.timer == line.now + 2 * INITIAL_RTT
    line.fire()
    assert (line.lost, line.recovery.rtt) == ([number], None)
    line.now = line.packets[number].sent_time + 0.3
    line.ack(number)
    assert line.recovery.rtt == line.samples[-1].rtt == pytest.approx(0.3)
    assert line.recovery.reordering_window == pytest.approx(0.3 / 8), "it was not overtaken"


@given(st.lists(st.tuples(st.floats(0.001, 2), st.floats(0, 0.2)), min_size=1, max_size=30))
@example([(0.1, 0.0)] * 30)
def test_round_trips_and_probe_timeouts_follow_rfc_9002(measured):
    line, smallest, smoothed, variance = Line(), 9.0, None, None
    line.recovery.max_ack_delay = 0.025
    for seconds, delay in measured:
        line.measure(seconds, delay=delay)
        latest = line.now - line.packets[-1].sent_time
        smallest = min(smallest, latest)
        if smoothed is None:
            smoothed, variance = latest, latest / 2
            continue
        wait = min(delay, 0.025)
        latest -= wait if latest >= smallest + wait else 0
        variance = 0.75 * variance + 0.25 * abs(smoothed - latest)
        smoothed = 0.875 * smoothed + 0.125 * latest
    timeout = smoothed + max(4 * variance, GRANULARITY)
    assert (line.recovery.rtt, line.samples[-1].rtt) == (pytest.approx(smoothed), pytest.approx(latest))
    assert line.recovery.reordering_window == pytest.approx(max(smallest / 8, GRANULARITY))
    assert line.recovery.get_probe_timeout() == pytest.approx(timeout + 0.025)
    assert line.recovery.get_probe_timeout(include_max_ack_delay=False) == pytest.approx(timeout)


def test_recent_loss_is_a_fraction(line):
    overtake(line, probe_timeout.RECENT + 1)
    line.now += 1
    line.measure()
    assert len(line.lost) == probe_timeout.RECENT
    assert line.recovery.recent_loss <= 1
