"""The bound by loss: what a full queue drops cuts the window, what the line loses does not."""

import math
import random

import pytest
from lane_quic.congestion import Sample
from lane_quic.congestion.loss_bound import BATCHES, BETA, ENOUGH, CubicWindow, LineSample, LossBound

SIZE = 1000
MIN_RTT, SHORT, LONG = 0.05, 0.051, 0.07
UNLIMITED = 1e9


class Packet:
    sent_bytes = SIZE

    def __init__(self, sent_time, number):
        self.sent_time, self.packet_number = sent_time, number


class Path:
    """Feeds a bound with samples of 10 packets each, 100 of them a second."""

    def __init__(self):
        self.bound = LossBound(SIZE)
        self.now = 1.0
        self.sent = 0
        self.bound.end_round(LONG)

    def send(self, samples, rtt, lost, every=2):
        """`lost(number)`: how many of a sample's packets are lost, `every` second one or all in a row.

        Return when the window was cut first.
        """
        for number in range(samples):
            self.now += 0.01
            packets = [Packet(self.now - rtt, self.sent + n) for n in range(10)]
            self.sent += 10
            dropped = packets[::every][: lost(number)]
            acked = [packet for packet in packets if packet not in dropped]
            sample = Sample(self.now, in_flight=90 * SIZE, acked=acked, dropped=dropped)
            self.bound.on_sample(sample, [rtt], MIN_RTT, UNLIMITED)
            if self.bound.window < math.inf:
                return number
        return None


def test_a_loss_at_a_full_queue_cuts_the_window_to_that_of_cubic():
    path = Path()
    assert path.send(50, SHORT, lambda n: 0) is None
    assert path.send(5, LONG, lambda n: 3) == 0
    assert path.bound.window == pytest.approx(BETA * 100 * SIZE, rel=0.02)


def test_one_congestion_cuts_it_once():
    path = Path()
    path.send(50, SHORT, lambda n: 0)
    path.send(1, LONG, lambda n: 3)
    window = path.bound.window
    for _ in range(6):  # these packets were sent before the cut
        path.send(1, LONG, lambda n: 3)
    assert path.bound.window >= window


@pytest.mark.parametrize("rtt", [SHORT, LONG])
@pytest.mark.parametrize(
    ("loss", "burst"),
    [(0.001, 1), (0.01, 1), (0.02, 1), (0.1, 1), (0.05, 4), (0.1, 8)],
)
def test_the_loss_of_a_line_cuts_nothing(rtt, loss, burst):
    path, chance = Path(), random.Random(1)

    def line(_):
        if burst == 1:
            return sum(chance.random() < loss for _ in range(10))
        return burst * (chance.random() < 10 * loss / burst)

    every = 2 if burst == 1 else 1
    assert path.send(500, SHORT, line, every) is None
    assert path.send(2000, rtt, line, every) is None


def test_bursts_on_a_line_that_has_them_count_once():
    path = Path()
    assert path.send(60, SHORT, lambda n: 6 * (n % 20 == 0), every=1) is None
    assert path.send(10, LONG, lambda n: 6 * (n % 5 == 0), every=1) is None
    path = Path()
    path.send(60, SHORT, lambda n: 0)
    assert path.send(10, LONG, lambda n: 6 * (n % 5 == 0), every=1) == 0


def test_nothing_is_tested_before_the_line_is_known():
    path = Path()
    assert path.send(ENOUGH // 10 - 5, SHORT, lambda n: 0) is None
    assert path.send(3, LONG, lambda n: 3) is None


def test_a_queue_that_is_always_long_is_tested_nevertheless():
    path = Path()
    path.bound.begin(path.now)
    for _ in range(30):
        path.bound.end_round(LONG)
    path.send(10, LONG, lambda n: 3)
    assert path.bound.window < math.inf


def test_a_window_that_others_leave_room_for_is_lifted():
    path = Path()
    path.send(50, SHORT, lambda n: 0)
    path.send(1, LONG, lambda n: 3)
    path.now += 1
    sample = Sample(path.now, in_flight=0, acked=[Packet(path.now - SHORT, path.sent)])
    path.bound.on_sample(sample, [SHORT], MIN_RTT, 60 * SIZE)
    assert path.bound.window == math.inf


def test_the_window_grows_as_rfc_9438_says():
    """From 0.7 to the old window within the cube root of (0.3 W / 0.4), flat there, then faster."""
    window, now, rtt = CubicWindow(), 0.0, 0.2
    window.cut(1000, now)
    regrowth = (300 / 0.4) ** (1 / 3)
    seen = {}
    while now < 2 * regrowth:
        now += rtt / 10
        window.grow(window.size / 10, now, rtt)
        seen[round(now, 2)] = window.size
    at = lambda part: next(size for time, size in seen.items() if time >= part * regrowth)  # noqa: E731
    assert 850 < at(0.25) < 920
    assert 980 < at(1.0) < 1010
    assert at(0.75) > 960
    assert 1200 < at(2.0) < 1350


def test_a_small_window_grows_as_renos_does():
    window, rtt = CubicWindow(), 0.01
    window.cut(20, 0.0)
    for n in range(1, 12):
        window.grow(window.size, n * rtt, rtt)
    assert window.size == pytest.approx(14 + 11 * 9 / 17, rel=0.02)


def test_one_bad_batch_says_nothing_of_the_line_and_two_do():
    line = LineSample()
    for number in range(20):
        line.count(100, 80 if number == 3 else 0)
    assert (line.loss, line.variance) == (0, 0)
    line.count(100, 10)
    line.count(100, 12)
    assert line.loss == pytest.approx(0.1)


def test_what_is_remembered_of_the_line_is_bounded():
    line = LineSample()
    for _ in range(10 * BATCHES):
        line.count(100, 1)
    assert line.packets == BATCHES * 100
