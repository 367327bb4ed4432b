"""How fast packets leave, and how fast they are found to arrive. A pacer that sends too much fills queues,
one that sends too little wastes the link, and one that errs about when to ask again spins or stalls; a
measured rate that is too high feeds itself. So both are held to what a clock says, over any schedule."""

from math import inf
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.congestion import Sample
from lane_quic.congestion.controllers import CONTROLLERS
from lane_quic.recovery.delivery_rate import DeliveryRate
from lane_quic.recovery.pacer import BATCH, BURST, FEW, HURRY, LONGEST_QUANTUM, MAKE_GOOD, QUANTUM, Pacer
from lane_quic.recovery.recovery import WINDOW_GAIN, Recovery

SIZE = 1200


class Valve:
    """A pacer, asked as aioquic asks: before each packet, and told of them when all are built."""

    def __init__(self, rate, now=1000.0):
        self.pacer = Pacer(SIZE)
        self.pacer.rate, self.now = rate, now
        self.log = []  # time, bytes

    def flush(self, most=10**6, size=SIZE):
        """Send what may leave now, up to `most` packets of `size` bytes: how many, and when to ask again."""
        count, at = 0, None
        while count < most and (at := self.pacer.next_send_time(self.now)) is None:
            self.pacer.update_after_send(self.now)
            count += 1
        for _ in range(count):
            self.pacer.charge(size)
        self.log.append((self.now, count * size))
        return count, at

    def drain(self):
        """Use up the first burst."""
        self.flush()
        return self


def burst(rate):
    """Bytes that may leave at once after a pause."""
    return min(max(rate * MAKE_GOOD, BURST * SIZE), BATCH * SIZE)


RATES = st.floats(3e3, 3e9)


@given(
    RATES,
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 1e-5, 0.0007, 0.004, 0.02, 1.5]), st.integers(0, 100), st.integers(30, SIZE)
        ),
        min_size=1, max_size=40,
    ),
)  # fmt: skip
def test_no_interval_carries_more_than_its_rate_and_a_burst(rate, turns):
    valve = Valve(rate)
    for pause, most, size in turns:
        valve.now += pause
        valve.flush(most, size)
    for first, (begun, _) in enumerate(valve.log):
        total = 0
        for at, size in valve.log[first:]:
            total += size
            assert total <= (rate * (at - begun) + burst(rate) + SIZE) * (1 + 1e-9)


@given(RATES)
def test_one_who_asks_when_he_was_told_to_gets_the_rate(rate):
    valve = Valve(rate).drain()
    begun, total = valve.now, 0
    for _ in range(100):
        count, at = valve.flush()
        total += count * SIZE
        assert at > valve.now
        longest = max(QUANTUM, min(LONGEST_QUANTUM, FEW * SIZE / rate))
        rounding = 1e-9  # of differences between large floats
        assert at - valve.now <= max(longest, (SIZE + 1) / rate) + rounding, "no longer than one packet takes"
        valve.now = at
    total += valve.flush()[0] * SIZE
    assert total == pytest.approx(rate * (valve.now - begun), rel=0.01, abs=SIZE)


@given(st.floats(1e3, 1e9), st.sampled_from([0.0, 1024.0, 2e6]))
def test_when_it_is_told_to_ask_again_a_packet_may_leave(rate, now):
    valve = Valve(rate, now).drain()
    for _ in range(30):
        _, at = valve.flush()
        assert at > valve.now
        valve.now = at
        assert valve.flush()[0] >= 1


@pytest.mark.parametrize("rate", [1e5, 2e6, 1e7])
@pytest.mark.parametrize("late", [0.001, 0.005, 0.5])
def test_a_late_timer_is_made_good_within_bounds(rate, late):
    valve = Valve(rate).drain()
    valve.now += late
    expected = min(late * rate, burst(rate)) / SIZE
    assert expected - 2 <= valve.flush()[0] <= expected + 1


@pytest.mark.parametrize("rate", [1e8, 1e9])
def test_a_batch_is_bounded_and_fast_paths_get_half_of_one_at_a_time(rate):
    valve = Valve(rate).drain()
    valve.now += 60
    assert valve.flush()[0] == BATCH
    for _ in range(10):
        count, valve.now = valve.flush()
    assert BATCH // 2 <= count <= BATCH // 2 + 1


@pytest.mark.parametrize("rate", [1e5, 1e8])
def test_packets_leave_a_quantum_apart_and_not_one_by_one(rate):
    valve = Valve(rate).drain()
    for _ in range(5):
        _, at = valve.flush()
        assert at >= valve.now + min(QUANTUM, BATCH / 2 * SIZE / rate)
        valve.now = at


def test_bursts_are_short_for_some_time_while_somebody_waits():
    valve = Valve(3.75e6).drain()
    _, at = valve.flush()
    assert at == pytest.approx(valve.now + FEW * SIZE / 3.75e6)
    valve.pacer.hurry(valve.now)
    _, at = valve.flush()
    assert at == pytest.approx(valve.now + QUANTUM)
    valve.now += HURRY
    valve.drain()
    _, at = valve.flush()
    assert at == pytest.approx(valve.now + FEW * SIZE / 3.75e6)


def test_packets_of_acknowledgements_alone_take_nothing_and_stall_nothing():
    valve = Valve(1e5)
    for _ in range(1000):
        assert valve.flush(1, size=0)[0] == 1
    assert valve.flush()[0] == BURST
    for _ in range(100):
        valve.pacer.update_after_send(valve.now)  # an ACK does not ask
        valve.pacer.charge(0)
    valve.now += 1.5 * SIZE / 1e5
    assert valve.flush()[0] == 2, "until nothing is left"


def test_nothing_is_held_back_before_a_rate_is_known_nor_owed_afterwards():
    valve = Valve(None)
    assert valve.flush(500) == (500, None)
    valve.pacer.rate = 1e5
    assert valve.flush()[0] == BURST


def test_small_packets_count_as_what_they_are():
    valve = Valve(1e5).drain()
    valve.now += 10 * SIZE / 1e5
    sent = sum(valve.flush(1, size=100)[0] for _ in range(500))
    assert sent == 10 * SIZE / 100


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_every_controller_gives_a_rate_once_a_round_trip_is_known(name):
    controller = CONTROLLERS[name](SIZE)
    recovery = Recovery(controller, SIZE)
    assert recovery.pacer.rate is None
    recovery._add_rtt(1.0, 0.1, 0.0)
    recovery._decide(Sample(now=1.0, delivered=0, lost=0, in_flight=0, rtt=0.1))
    assert recovery.pacer.rate > 10 * SIZE
    if controller.pacing_rate is None:
        assert recovery.pacer.rate == pytest.approx(WINDOW_GAIN * controller.window / 0.1)


def test_a_server_that_is_full_holds_a_connection_to_less_than_its_path_takes():
    recovery = Recovery(CONTROLLERS["bbr"](SIZE), SIZE)
    recovery.pacer.most = 5000.0
    recovery._decide(Sample(now=1.0, delivered=0, lost=0, in_flight=0, rtt=0.1))
    recovery._add_rtt(1.0, 0.1, 0.0)
    for most in (5000.0, 7000.0):
        recovery.pacer.most = most
        recovery._decide(Sample(now=1.0, delivered=0, lost=0, in_flight=0, rtt=0.1))
        assert recovery.pacer.rate == most
    recovery.pacer.most = inf
    recovery._decide(Sample(now=1.0, delivered=0, lost=0, in_flight=0, rtt=0.1))
    assert 7000.0 < recovery.pacer.rate < inf


# What arrives.


class Trip:
    """Packets on a path, and the samples that their acknowledgements give."""

    def __init__(self, min_rtt=0.05):
        self.progress, self.flying, self.min_rtt = DeliveryRate(), [], min_rtt

    def send(self, now, size=SIZE):
        packet = SimpleNamespace(sent_time=now, sent_bytes=size)
        self.progress.on_sent(packet, self.in_flight)
        self.flying.append(packet)
        return packet

    @property
    def in_flight(self):
        return sum(packet.sent_bytes for packet in self.flying)

    def ack(self, now, count):
        """The oldest `count` arrive."""
        acked, self.flying = self.flying[:count], self.flying[count:]
        return self.progress.sample(now, acked, self.min_rtt, None)


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("ahead", [1, 2])
def test_steady_delivery_gives_the_rate_of_the_path(every, ahead):
    """A packet arrives each millisecond, whether it left just in time or stood in a queue before that."""
    trip, samples = Trip(), []
    for step in range(400):
        for _ in range(ahead if step < 100 else 1):
            trip.send(step / 1000)
        if step >= 50 and (step - 49) % every == 0:
            samples.append(trip.ack(step / 1000, every))
    settled = [sample.rate for sample in samples[200 // every :]]
    assert len(settled) > 20
    assert min(settled) > 0.95 * 1000 * SIZE
    assert max(settled) < 1.05 * 1000 * SIZE
    assert max(sample.rate for sample in samples) < 1.05 * 1000 * SIZE, "not even at the start"
    assert not any(sample.limited for sample in samples)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20), st.floats(1e-4, 0.2)), max_size=60))
def test_no_rate_is_above_what_arrived_since_the_packet_left(turns):
    trip, now, arrived = Trip(0.001), 5.0, 0
    for sent, acked, pause in turns:
        for _ in range(sent):
            trip.send(now).arrived = arrived
        now += pause
        newest = [None, *trip.flying[:acked]][-1]
        arrived += SIZE * len(trip.flying[:acked])
        sample = trip.ack(now, acked)
        assert trip.progress.delivered == arrived
        if newest is not None:
            assert sample.round_delivered == newest.arrived
            assert sample.rate * (now - newest.sent_time) <= arrived - newest.arrived + 1e-6


def test_a_burst_that_is_acknowledged_at_once_shows_no_more_than_a_round_trip_carried():
    trip = Trip(min_rtt=0.1)
    for _ in range(10):
        trip.send(1.0)
    assert trip.ack(1.1, 10).rate == pytest.approx(10 * SIZE / 0.1)


def test_acknowledgements_that_were_held_up_show_no_higher_rate():
    """A packet a millisecond; after a while the way back is 60 ms shorter."""
    trip, rates = Trip(), []
    for step in range(500):
        trip.send(step / 1000)
        arrived = len(trip.flying) - (110 if step < 250 else 50)
        rates += [trip.ack(step / 1000 + n / 1e6, 1).rate for n in range(arrived)]
    assert max(rates) < 1.05 * 1000 * SIZE
    assert rates[-1] == pytest.approx(1000 * SIZE, rel=0.05)


def test_rates_that_the_application_set_are_marked():
    trip = Trip()
    trip.send(1.0)
    trip.progress.on_limited(trip.in_flight)
    trip.send(1.01)
    trip.send(1.2)
    samples = [trip.ack(1.25, 1), trip.ack(1.26, 1), trip.ack(1.27, 1)]
    trip.send(1.3)
    samples.append(trip.ack(1.4, 1))
    assert [sample.limited for sample in samples] == [False, True, True, False]


def test_an_idle_connection_is_limited_by_its_application():
    trip = Trip()
    trip.progress.on_limited(0)
    trip.send(1.0)
    trip.send(1.0)
    assert trip.ack(1.1, 1).limited


def test_an_interval_below_the_round_trip_gives_no_rate():
    trip = Trip(min_rtt=0.2)
    trip.send(1.0)
    trip.send(1.001)
    assert trip.ack(1.1, 1).rate == 0.0
    trip.min_rtt = 0.05
    assert trip.ack(1.1001, 1).rate == pytest.approx(2 * SIZE / 0.1001)


def test_a_pause_is_no_slow_delivery():
    trip = Trip()
    trip.send(1.0)
    trip.ack(1.1, 1)
    trip.send(9.0)
    assert trip.ack(9.1, 1).rate == pytest.approx(SIZE / 0.1)


def test_late_arrivals_count_as_delivered_and_no_longer_as_lost():
    trip = Trip()
    first, _ = trip.send(1.0), trip.send(1.0)
    trip.flying.remove(first)
    trip.progress.lost += SIZE
    trip.progress.arrived_late(first)
    sample = trip.ack(1.1, 1)
    assert (trip.progress.delivered, trip.progress.lost) == (2 * SIZE, 0)
    assert sample.rate == pytest.approx(2 * SIZE / 0.1)
