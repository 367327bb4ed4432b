"""Careful Resume, phase by phase, and BBR with it on a simulated link: all on virtual clocks."""

from dataclasses import dataclass
from math import inf

import pytest
from lane_quic.congestion import Sample
from lane_quic.congestion.bbr import INITIAL_PACKETS, Bbr, BbrState
from lane_quic.congestion.careful_resume import (
    INITIAL_WINDOW,
    LEAST_SAVED,
    SCOUT_SIZE,
    TRIALS,
    CarefulResume,
    Phase,
)

from lane.net.path_memory import LIFETIME, PathMemory
from tests.support.quic_link import SIZE, Clock, Flow, Link

RATE, RTT = 12.5e6, 0.2
BDP = RATE * RTT
INITIAL = INITIAL_PACKETS * SIZE


@dataclass
class Packet:
    sent_time: float
    sent_bytes: int = SIZE


class Scene:
    """One start, told of packets by hand."""

    def __init__(self, loss=0.0, known=True):
        self.now = 0.0
        self.memory = PathMemory(lambda: self.now)
        self.path = self.memory.to("192.0.2.1")
        if known:
            self.path.learn(RATE, RTT, loss)
        self.resume = CarefulResume(self.path, INITIAL)
        self.in_flight = 0
        self.flying = []

    def send(self, count):
        for _ in range(count):
            packet = Packet(self.now)
            self.resume.on_sent(packet, self.in_flight)
            self.in_flight += SIZE
            self.flying.append(packet)
            self.now += 1e-5

    def news(self, acked=0, lost=0, rtt=RTT, window=INITIAL):
        """The oldest packets in flight: so many were lost, and then so many arrived."""
        dropped, arrived = self.flying[:lost], self.flying[lost : lost + acked]
        del self.flying[: lost + acked]
        self.in_flight -= SIZE * (acked + lost)
        self.resume.on_sample(
            Sample(self.now, in_flight=self.in_flight, acked=arrived, dropped=dropped), rtt, window
        )

    def jump(self):
        """Up to the first unvalidated packet in flight."""
        self.send(10)
        self.now += RTT
        self.news(acked=10)
        self.send(INITIAL_PACKETS + 1)
        assert self.phase is Phase.UNVALIDATED

    def fill(self):
        """As many packets as the jump allows."""
        self.send(int((self.resume.jump - self.in_flight) / SIZE))

    @property
    def phase(self):
        return self.resume.phase


@pytest.fixture
def scene():
    return Scene()


def test_an_initial_window_that_arrives_allows_half_of_the_known_bdp(scene):
    scene.send(10)
    scene.news(acked=7)
    assert scene.resume.jump == 0
    scene.news(acked=2)
    assert (scene.phase, scene.resume.jump) == (Phase.RECONNAISSANCE, pytest.approx(BDP / 2))


@pytest.mark.parametrize(
    ("rtt", "jumps"),
    [(0.49 * RTT, False), (0.5 * RTT, True), (10 * RTT, True), (10.1 * RTT, False)],
)
def test_the_round_trip_must_be_like_the_known_one(scene, rtt, jumps):
    scene.send(10)
    scene.news(acked=10, rtt=rtt)
    assert (scene.resume.jump > 0) is jumps


def test_the_newest_round_trip_counts_and_not_the_shortest_of_an_hour(scene):
    scene.send(10)
    scene.news(acked=10)
    assert scene.resume.jump > 0
    scene.resume.on_sample(Sample(scene.now, rtt=11 * RTT), RTT, INITIAL)
    assert scene.resume.jump == 0


def test_a_lost_packet_of_the_first_ones_forbids_the_jump(scene):
    scene.send(20)
    scene.news(lost=1, acked=19)
    assert (scene.phase, scene.resume.jump) == (Phase.NORMAL, 0)
    assert scene.path.figures is not None  # it was not tried, so others may


def test_a_jump_that_is_no_larger_than_the_own_window_is_none(scene):
    scene.send(10)
    scene.news(acked=10, window=int(BDP / 2))
    assert scene.resume.jump == 0


def test_figures_that_are_learnt_meanwhile_or_age_out_count():
    scene = Scene(known=False)
    scene.send(20)
    scene.news(acked=10)
    assert (scene.phase, scene.resume.jump) == (Phase.RECONNAISSANCE, 0)
    scene.path.learn(RATE, RTT, 0.0)
    scene.news(acked=1)
    assert scene.resume.jump > 0
    scene.now += LIFETIME + 1
    scene.news(acked=1)
    assert scene.resume.jump == 0


def test_scouts_make_up_for_data_that_are_few(scene):
    assert scene.resume.scouts == INITIAL_WINDOW / SCOUT_SIZE
    assert not scene.resume.needs_no_scouts
    for _ in range(10):
        scene.resume.on_scout(arrived=True)
    scene.news()
    assert (scene.resume.scouts, scene.resume.jump) == (0, BDP / 2)
    assert scene.resume.needs_no_scouts


def test_a_lost_scout_forbids_the_jump_too(scene):
    for number in range(11):
        scene.resume.on_scout(arrived=number > 0)
    scene.news()
    assert scene.phase is Phase.NORMAL


def test_nobody_scouts_on_an_unknown_path():
    assert Scene(known=False).resume.scouts == 0


def test_while_one_connection_tries_the_path_no_other_one_does(scene):
    other = CarefulResume(scene.path, INITIAL)
    other.jump = BDP / 2
    scene.jump()
    other.on_sent(Packet(scene.now), INITIAL)
    assert (other.phase, other.jump) == (Phase.NORMAL, 0)


def test_the_jump_is_validated_and_the_figures_come_back(scene):
    scene.jump()
    before = scene.resume.jump
    scene.fill()
    scene.now += RTT
    scene.news(acked=INITIAL_PACKETS + 1)
    assert (scene.phase, scene.resume.jump) == (Phase.VALIDATING, 0)
    assert scene.resume.flight == pytest.approx(before, rel=0.01)  # growth goes on from there
    assert scene.path.figures is None
    scene.send(5)
    scene.news(acked=len(scene.flying) - 6)
    assert scene.phase is Phase.VALIDATING
    scene.news(acked=1)
    assert scene.phase is Phase.NORMAL
    assert scene.path.figures.rate == RATE


def test_a_round_trip_without_news_of_the_jump_ends_it_as_well(scene):
    scene.jump()
    scene.fill()
    scene.now += 1.1 * RTT
    scene.news(acked=1)
    assert scene.phase is Phase.VALIDATING


def test_a_jump_that_was_not_used_stays_for_a_few_round_trips(scene):
    scene.jump()
    for _ in range(TRIALS - 1):
        scene.send(20)
        scene.now += RTT
        scene.news(acked=len(scene.flying))
        assert (scene.phase, scene.resume.jump) == (Phase.UNVALIDATED, BDP / 2)
        scene.send(20)
    scene.now += RTT
    scene.news(acked=len(scene.flying))
    assert scene.phase is Phase.VALIDATING


@pytest.mark.parametrize("validating", [False, True])
def test_loss_leads_to_half_of_what_arrived_until_all_of_the_jump_is_known(scene, validating):
    scene.jump()
    scene.fill()
    if validating:
        scene.now += RTT
        scene.news(acked=INITIAL_PACKETS + 1)
    scene.news(lost=1, acked=100)
    assert scene.phase is Phase.SAFE_RETREAT
    arrived = INITIAL + (100 + (INITIAL_PACKETS + 1) * validating) * SIZE  # PipeSize
    assert (scene.resume.jump, scene.resume.flight, scene.resume.limit) == (0, 0, arrived / 2)
    scene.send(1)
    scene.news(acked=len(scene.flying) - 2)
    assert scene.phase is Phase.SAFE_RETREAT
    scene.news(acked=1)
    assert (scene.phase, scene.resume.limit) == (Phase.NORMAL, inf)
    assert scene.path.figures is None  # forgotten


def test_what_the_line_loses_anyway_is_no_congestion():
    scene = Scene(loss=0.01)
    scene.jump()
    scene.fill()
    scene.now += RTT
    scene.news(acked=600, lost=10)
    assert scene.phase is Phase.VALIDATING
    scene.news(acked=100, lost=30)
    assert scene.phase is Phase.SAFE_RETREAT


def test_a_rate_that_was_too_high_is_not_brought_back(scene):
    scene.jump()
    scene.fill()
    scene.now += RTT
    scene.resume.on_full()
    scene.news(acked=len(scene.flying))
    scene.news()
    assert scene.path.figures is None


def test_packets_of_another_path_do_not_count(scene):
    """After a migration the controller is new, and hears of packets that were sent before."""
    scene.now = 10.0
    scene.send(1)
    scene.flying[:0] = [Packet(9.0) for _ in range(20)]
    scene.news(lost=5, acked=15)
    assert (scene.phase, scene.resume.jump) == (Phase.RECONNAISSANCE, 0)


# BBR with it, on a link.


def first(size, memory, seed=1, **link):
    """Seconds in which the first `size` bytes arrive on a new connection, and its flow."""
    clock = Clock(seed)
    controller = Bbr(SIZE, seed)
    flow = Flow(clock, Link(clock, **link), controller)
    if memory is not None:
        resume = controller.resume(memory.to("192.0.2.1"))
        for _ in range(resume.scouts):
            resume.on_scout(arrived=True)
    controller.on_sample(Sample(0.0, rtt=link["rtt"] * 1.01))  # of the handshake
    flow.recovery.pacer.rate = controller.pacing_rate
    while flow.received * SIZE < size:
        clock.run(clock.now + 0.005)
    return clock.now, flow


def learnt(seed=1, secs=6, **link):
    """The memory after a long transfer."""
    clock = Clock(seed)
    memory = PathMemory(lambda: 0.0)
    controller = Bbr(SIZE, seed)
    controller.resume(memory.to("192.0.2.1"))
    Flow(clock, Link(clock, **link), controller).rate(secs)
    return memory


FAT = {"mbit": 100, "rtt": 0.2}


@pytest.mark.bulk
def test_a_long_transfer_teaches_the_rate_and_the_round_trip():
    figures = learnt(**FAT, loss=0.01).to("192.0.2.1").figures
    assert figures.rate == pytest.approx(12.5e6, rel=0.1)
    assert figures.rtt == pytest.approx(0.2, rel=0.05)
    assert figures.loss == pytest.approx(0.01, abs=0.01)


@pytest.mark.bulk
def test_what_the_application_limits_teaches_nothing():
    clock, memory = Clock(1), PathMemory(lambda: 0.0)
    controller = Bbr(SIZE, 1)
    controller.resume(memory.to("192.0.2.1"))
    Flow(clock, Link(clock, **FAT), controller, supply=lambda now: now * 100_000).rate(6)
    assert memory.to("192.0.2.1").figures is None


def test_a_small_pipe_is_not_worth_it():
    controller, memory = Bbr(SIZE, 1), PathMemory(lambda: 0.0)
    controller.resume(memory.to("192.0.2.1"))
    controller.min_rtt = 0.1
    for rate in (LEAST_SAVED / 0.1 - 1, LEAST_SAVED / 0.1 + 1):
        controller.on_sample(Sample(1.0, acked=[Packet(0.5)], rate=rate, round_delivered=0))
        assert (memory.to("192.0.2.1").figures is None) is (rate * 0.1 < LEAST_SAVED)


@pytest.mark.bulk
@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_a_known_path_is_filled_sooner(loss):
    memory = learnt(**FAT, loss=loss)
    before = memory.to("192.0.2.1").figures
    slow, _ = first(2e6, None, **FAT, loss=loss)
    quick, flow = first(2e6, memory, **FAT, loss=loss)
    assert quick < slow - 0.1
    assert flow.link.dropped == 0
    assert memory.to("192.0.2.1").figures.rate == pytest.approx(before.rate)


@pytest.mark.bulk
@pytest.mark.parametrize("queue", [2_500_000, 625_000, 64_000])
def test_on_a_path_that_became_slower_it_is_not_worse_than_without(queue):
    slower = {"mbit": 25, "rtt": 0.2, "queue": queue}
    without, other = first(2e6, None, **slower)
    took, flow = first(2e6, learnt(**FAT), **slower)
    assert took < without
    assert flow.link.dropped <= other.link.dropped
    assert max(flow.link.waits) <= 1.01 * max(other.link.waits)


@pytest.mark.bulk
def test_after_a_retreat_the_path_is_unknown_or_known_anew():
    memory = learnt(**FAT)
    _, flow = first(8e6, memory, mbit=25, rtt=0.2, queue=64_000)
    assert flow.controller.state is not BbrState.START
    figures = memory.to("192.0.2.1").figures
    assert figures is None or figures.rate < 1.3 * 25e6 / 8
