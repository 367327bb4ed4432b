"""Pacing yields to a queue that stands, by as much as stands there."""

import pytest
from lane_quic.congestion.standing_queue import MOST_YIELD, SHORT_QUEUE, StandingQueue


@pytest.mark.parametrize(
    ("low", "min_rtt", "pacing"),
    [
        (0.05, 0.05, 1.0),
        (0.05 + SHORT_QUEUE, 0.05, 1.0),
        (0.05 + SHORT_QUEUE + 0.002, 0.05, 0.98),
        (0.2 + SHORT_QUEUE + 0.002, 0.2, 0.995),
        (0.001 + SHORT_QUEUE + 0.002, 0.001, 0.98),  # timers are as late on short paths
        (0.1, 0.05, MOST_YIELD),
    ],
)
def test_pacing_drains_the_queue_in_two_rounds(low, min_rtt, pacing):
    queue = StandingQueue()
    queue.end_round(low, min_rtt)
    assert queue.pacing == pytest.approx(pacing)


def test_rounds_with_a_long_queue_are_counted_in_a_row():
    queue, seen = StandingQueue(), []
    for low in (0.06, 0.06, 0.051, 0.06):
        queue.end_round(low, 0.05)
        seen.append(queue.rounds)
    assert seen == [1, 2, 0, 1]


@pytest.mark.parametrize(
    ("lows", "rtt", "none"),
    [
        ((0.115, 0.2, 0.201, 0.2), 0.202, True),
        ((0.2, 0.2, 0.2), 0.15, False),  # it drained
        ((0.15, 0.19, 0.2), 0.2, False),  # it grew
        ((0.2, 0.2), 0.2, False),
    ],
)
def test_what_stays_the_same_with_less_in_flight_is_no_queue(lows, rtt, none):
    queue = StandingQueue()
    for low in lows:
        queue.end_round(low, 0.02)
    assert queue.was_none(rtt) is none
