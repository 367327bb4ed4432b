"""What the counts of sessions say of their lane."""

import pytest

from lane.carriers.measure import ENOUGH, Counts, Measure, Way


class Passage:
    def __init__(self):
        self.stream, self.moved, self.near, self.far, self.rtt = object(), 0, None, None, None

    def count(self):
        return self.stream, Counts(self.moved, (self.near, self.far))


def take(measure, now, passages):
    measure.take(now, {passage: passage.count() for passage in passages})


def run(measure, passages, seconds, step, *, start=0.0):
    now = start
    for _ in range(round(seconds / 0.125)):
        step()
        now += 0.125
        take(measure, now, passages)
    return now


def test_goodput_is_of_the_last_second_and_all_sessions():
    measure, passages = Measure(), [Passage(), Passage()]
    take(measure, 0.0, passages)

    def step():
        for passage in passages:
            passage.moved += 1000

    now = run(measure, passages, 3, step)
    assert measure.goodput(now) == 16_000
    assert measure.goodput(run(measure, passages, 1, lambda: None, start=now)) == 0


def test_loss_is_of_both_directions_and_only_where_enough_was_sent():
    measure, passage = Measure(), Passage()
    passage.near, passage.far = Way(10**9, 10**8, 0.0), Way(0, 0, 0.0)
    take(measure, 0.0, [passage])
    passage.far = Way(ENOUGH - 1, 1000, 0.0)
    take(measure, 0.1, [passage])
    assert measure.loss(0.1) is None
    passage.near = Way(10**9 + 10_001, 10**8 + 1000, 0.0)
    take(measure, 0.2, [passage])
    assert measure.loss(0.2) == pytest.approx(2000 / (ENOUGH + 10_000))
    take(measure, 3.0, [passage])
    assert measure.loss(3.0) is None  # long ago


def test_another_stream_counts_from_elsewhere():
    measure, passage = Measure(), Passage()
    passage.moved, passage.far = 1000, Way(0, 0, 0.0)
    take(measure, 0.0, [passage])
    passage.stream, passage.moved, passage.far = object(), 2000, Way(10**9, 10**8, 0.0)
    take(measure, 0.1, [passage])
    assert measure.goodput(0.1) == 0
    assert measure.loss(0.1) is None
    passage.moved = 2500
    take(measure, 0.2, [passage])
    assert measure.goodput(0.2) == 500


def test_who_was_held_most_says_how_far_the_lane_is_the_limit():
    measure, passages = Measure(), [Passage(), Passage()]
    for passage in passages:
        passage.near = passage.far = Way(0, 0, 0.0)
    take(measure, 0.0, passages)

    def step():
        passages[0].near = Way(0, 0, passages[0].near.held + 0.025)
        passages[1].far = Way(0, 0, passages[1].far.held + 0.1)

    now = run(measure, passages, 2, step)
    assert measure.limited(now) == pytest.approx(0.8)
    passages[1].far = Way(0, 0, 100.0)  # told late, of all that time
    take(measure, now + 0.1, passages)
    assert measure.limited(now + 0.1) == 1.0


def test_the_round_trip_is_the_shortest_of_those_that_carry_and_stays_while_they_pause():
    measure, passages = Measure(), [Passage(), Passage(), Passage()]
    take(measure, 0.0, passages)
    assert measure.rtt is None
    for passage, rtt, moved in zip(passages, (0.3, 0.2, 0.1), (1, 1, 0), strict=True):
        passage.rtt, passage.moved = rtt, moved
    take(measure, 0.1, passages)
    assert measure.rtt == 0.2
    take(measure, 0.2, passages)
    assert measure.rtt == 0.2
    take(measure, 0.3, [])
    assert measure.rtt is None


def test_it_remembers_two_seconds():
    measure, passage = Measure(), Passage()
    run(measure, [passage], 100, lambda: None)
    assert len(measure._samples) <= 18
    take(measure, 200.0, [])
    assert not measure._before
