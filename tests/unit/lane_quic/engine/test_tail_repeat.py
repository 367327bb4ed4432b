"""Tails sent twice: what that may cost, from what it is decided, and what it is for. The budget is held to
its bounds over any schedule; the loss of what the peer sends is told from packet numbers alone; and on two
engines with a lossy path between them small answers must come sooner, on a clean one nothing goes twice."""

import random
from functools import partial

import lane_quic.engine.tail_repeat
import lane_quic.recovery.probe_timeout
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.congestion.bbr import Bbr
from lane_quic.engine.sender import Sender
from lane_quic.engine.tail_repeat import (
    EVIDENCE,
    LOSSY,
    MOST_SAVED,
    PAUSE,
    SHARE,
    TAIL,
    TRICKLE,
    TRICKLE_SHARE,
    Arrivals,
    TailBudget,
)
from lane_quic.recovery.probe_timeout import FOLLOWERS, LOSSY_TIMEOUTS, PROBES

from tests.support.quic_pipe import Pipe

pytestmark = pytest.mark.bulk  # two engines, or many turns: without the tracer

OVERSHOOT = TAIL + 100
"""Bytes by which the last tail may exceed the budget: the next ones pay for it."""


# The budget.


class Spender:
    """Repeats whenever it may."""

    def __init__(self):
        self.budget, self.now = TailBudget(), 1000.0
        self.log = [(self.now, 0, 0)]  # time; bytes sent and repeated until then

    def turn(self, pause, sent, wanted):
        _, before, repeated = self.log[-1]
        self.now += pause
        self.budget.on_sent(sent)
        if wanted and self.budget.room(self.now, None):
            self.budget.spend(wanted)
            repeated += wanted
        self.log.append((self.now, before + sent, repeated))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.001, 0.05, 3.0, 1e6]), st.integers(0, 300_000), st.integers(0, TAIL)
        ),
        max_size=80,
    )
)
def test_repetition_is_a_share_of_what_is_sent_and_a_trickle_over_any_interval(turns):
    spender = Spender()
    for turn in turns:
        spender.turn(*turn)
    for first, (begun, sent_before, repeated_before) in enumerate(spender.log):
        for at, sent, repeated in spender.log[first:]:
            allowed = MOST_SAVED + SHARE * (sent - sent_before) + TRICKLE * (at - begun)
            assert repeated - repeated_before <= allowed + OVERSHOOT


@pytest.mark.parametrize("rate", [0, 1_000_000, 50_000_000])
def test_what_may_be_repeated_is_used_by_those_who_want_it(rate):
    spender = Spender()
    for _ in range(10_000):
        spender.turn(0.001, rate // 1000, TAIL)
    repeated = spender.log[-1][2]
    allowed = MOST_SAVED + 10 * (SHARE * rate + TRICKLE)
    assert 0.95 * allowed - OVERSHOOT < repeated <= allowed + OVERSHOOT


def test_a_slow_path_is_not_filled_with_copies():
    budget = TailBudget()
    budget.room(1000.0, 1e4)
    budget.spend(MOST_SAVED + 1000)
    seconds = 1000 / (TRICKLE_SHARE * 1e4)
    assert not budget.room(1000.0 + 0.9 * seconds, 1e4)
    assert budget.room(1000.0 + 1.2 * seconds, 1e4)


def test_an_idle_year_saves_no_more_than_a_few_tails():
    spender = Spender()
    spender.turn(3e7, 10**12, 0)
    for _ in range(100):
        spender.turn(0, 0, TAIL)
    assert MOST_SAVED - TAIL < spender.log[-1][2] < MOST_SAVED + OVERSHOOT


# What arrives from the peer.


def estimate(loss=0.0, reach=0, first=0, count=2000, seed=1):
    """What is made of `count` packets, of which each may be overtaken by the `reach` behind it."""
    chance, arrivals = random.Random(seed), Arrivals()
    for number in sorted(range(first, first + count), key=lambda number: number + chance.random() * reach):
        if chance.random() >= loss:
            arrivals.count(number, number + 1)
    return arrivals


@given(st.floats(0, 0.5), st.sampled_from([0, 3, 30]), st.integers(1, 10**6))
def test_loss_is_told_from_the_numbers_of_what_arrives(loss, reach, seed):
    arrivals = estimate(loss, reach, seed=seed)
    spread = 3.5 * (loss * (1 - loss) / 128 / 3) ** 0.5  # of an average of the last few hundred packets
    assert loss - spread - 0.01 - reach / 128 <= arrivals.loss <= loss + spread + 0.01 + reach / 128


@pytest.mark.parametrize("first", [0, 4, 1000])
@pytest.mark.parametrize("reach", [0, 3])
def test_no_loss_is_seen_where_none_is(first, reach):
    assert all(estimate(reach=reach, first=first, count=n).loss < 0.02 for n in (100, 130, 260, 999))
    assert reach or estimate(first=first).loss == 0


def test_loss_is_seen_and_forgotten_within_a_few_hundred_packets():
    arrivals = Arrivals()
    for number in range(0, 400, 2):
        arrivals.count(number, number + 1)
    assert arrivals.loss == pytest.approx(0.5, abs=0.02)
    for number in range(400, 2000):
        arrivals.count(number, number + 1)
    assert arrivals.loss < LOSSY
    assert arrivals.counted == 200 + 1600


def test_wild_reordering_is_no_loss():
    """Sixty packets: 10 ms of jitter at 60 Mbit/s."""
    seen = [estimate(reach=60, count=count).loss for count in range(1000, 4000, 130)]
    assert sum(seen) / len(seen) < LOSSY
    assert min(seen) >= 0


# What it is for.


class Exchanges:
    """Requests and answers over a path; `bytes` counts what both sides put on it."""

    def __init__(self, **path):
        self.pipe = Pipe(**path, control=partial(Bbr, seed=1)).connect()
        self.bytes, self._put = 0, self.pipe._put
        self.pipe._put = self._count
        self.pipe.settle(0.5)

    def _count(self, side, datagram):
        self.bytes += len(datagram)
        self._put(side, datagram)

    def run(self, count, request=300, answer=4000):
        """Seconds that each took, in order of size."""
        pipe, times = self.pipe, []
        for _ in range(count):
            begun = pipe.now
            number = pipe.client.open(bytes(request), end=True)
            pipe.run(lambda number=number: number in pipe.server.ends)
            pipe.server.engine.send_stream_data(number, bytes(answer), True)
            pipe.run(lambda number=number: number in pipe.client.ends)
            times.append(pipe.now - begun)
        return sorted(times)


def at(part, times):
    return times[int(part * len(times))]


def never(monkeypatch):
    """No tail is repeated."""
    monkeypatch.setattr(lane_quic.engine.tail_repeat, "LOSSY", 2.0)
    monkeypatch.setattr(lane_quic.engine.tail_repeat, "EVIDENCE", 0)


@pytest.fixture
def repeats(monkeypatch):
    """How many bytes were repeated, each time."""
    log, repeat = [], Sender.repeat

    def logged(sender, most):
        log.append(repeat(sender, most))
        return log[-1]

    monkeypatch.setattr(Sender, "repeat", logged)
    return log


@pytest.mark.parametrize("answer", [300, 4000])
def test_small_answers_come_sooner_over_a_lossy_path(monkeypatch, answer):
    def times():
        return sorted(
            time for seed in range(1, 9) for time in Exchanges(loss=0.1, seed=seed).run(80, answer=answer)
        )

    with_tails = times()
    never(monkeypatch)
    without = times()
    assert at(0.9, with_tails) < 0.7 * at(0.9, without)
    assert at(0.99, with_tails) < 0.85 * at(0.99, without)
    assert at(0.5, with_tails) == pytest.approx(at(0.5, without), rel=0.1), "the usual one is not delayed"


class Bursts:
    """Whether a datagram is lost: a tenth of them, about `length` in a row, in each direction's own turn."""

    def __init__(self, length, seed):
        self._leave, self._bad, self._random = 1 / length, False, random.Random(seed)

    def __call__(self, datagram):
        chance = self._random.random()
        self._bad = chance >= self._leave if self._bad else chance < self._leave / 9
        return self._bad


@pytest.mark.parametrize("length", [8, 16])
def test_a_burst_of_losses_is_outlasted_by_many_probes_and_not_by_doubled_timeouts(monkeypatch, length):
    def times():
        found = []
        for seed in range(1, 7):
            exchanges = Exchanges()
            exchanges.pipe.dropped = Bursts(length, seed)
            exchanges.run(20)  # until both sides know that the path is lossy
            found += exchanges.run(80)
        return sorted(found)

    now = times()
    monkeypatch.setattr(lane_quic.recovery.probe_timeout, "FOLLOWERS", 0)
    monkeypatch.setattr(lane_quic.recovery.probe_timeout, "LOSSY_BACKOFF", 0.5)
    assert at(0.99, now) < 0.6 * at(0.99, times())


def test_what_probe_timeouts_send_is_bounded():
    exchanges, sent = Exchanges(), []
    pipe = exchanges.pipe
    pipe.dropped = lambda datagram: sent.append(pipe.now) or True
    pipe.client.open(bytes(300), end=True)
    pipe.settle(4.0)
    timeouts = pipe.client.engine.loss.timeouts
    assert timeouts > LOSSY_TIMEOUTS
    assert LOSSY_TIMEOUTS * FOLLOWERS / 2 < len(sent) <= 2 + timeouts * PROBES + LOSSY_TIMEOUTS * FOLLOWERS


def test_repetition_over_a_lossy_path_stays_within_its_budget(repeats, monkeypatch):
    monkeypatch.setattr(lane_quic.engine.tail_repeat, "TRICKLE", 2000.0)
    exchanges = Exchanges(loss=0.1)
    repeats.clear()
    begun, before = exchanges.pipe.now, exchanges.bytes
    exchanges.run(100, answer=TAIL)
    seconds, sent = exchanges.pipe.now - begun, exchanges.bytes - before
    allowed = 2 * (MOST_SAVED + OVERSHOOT + 2000 * seconds) + SHARE * sent
    assert 3 * TAIL < sum(repeats) <= allowed < 50 * TAIL


def test_a_long_transfer_repeats_its_end_and_nothing_else(repeats):
    pipe = Pipe(loss=0.05, seed=3).connect()
    pipe.settle(0.5)
    repeats.clear()
    number = pipe.client.open(bytes(2_000_000), end=True)
    pipe.run(lambda: number in pipe.server.ends)
    assert sum(repeats) <= TAIL


def test_the_second_copy_is_a_packet_of_its_own_a_little_later(repeats):
    pipe = Pipe().connect()
    pipe.settle(0.5)
    repeats.clear()
    begun = pipe.now
    pipe.client.open(bytes(300), end=True)
    pipe.flush()
    assert (repeats, len(pipe._wire)) == ([], 1)
    at = pipe.client.engine.get_timer()
    assert begun < at <= begun + PAUSE
    pipe.step(at)
    assert (repeats, len(pipe._wire)) == ([300], 2)
    assert pipe._wire[1][0] - pipe._wire[0][0] == pytest.approx(at - begun, abs=1e-4)


def test_over_a_clean_path_nothing_goes_twice_after_the_first_packets(repeats):
    exchanges = Exchanges()
    exchanges.run(EVIDENCE)
    before, exchanges.bytes = len(repeats), 0
    exchanges.run(100)
    assert len(repeats) == before > 0
    assert exchanges.bytes < 1.2 * 100 * 4300


def test_copies_that_the_network_makes_hide_no_loss():
    exchanges = Exchanges(loss=0.15, twice=0.15)
    exchanges.run(100)
    for side in (exchanges.pipe.client, exchanges.pipe.server):
        assert side.engine.arrivals.loss > 0.05
