"""What the counts of sessions say of their lane."""

import pytest

from lane.carriers.path_meter import ENOUGH, DirectionCounts, PathMeter, SessionCounts


class Driven:
    def __init__(self):
        self.stream, self.moved, self.near, self.far, self.rtt = object(), 0, None, None, None

    def count(self):
        return self.stream, SessionCounts(self.moved, (self.near, self.far))


def take(meter, now, drivers):
    meter.take(now, {driver: driver.count() for driver in drivers})


def run(meter, drivers, seconds, step, *, start=0.0):
    now = start
    for _ in range(round(seconds / 0.125)):
        step()
        now += 0.125
        take(meter, now, drivers)
    return now


def test_goodput_is_of_the_last_second_and_all_sessions():
    meter, drivers = PathMeter(), [Driven(), Driven()]
    take(meter, 0.0, drivers)

    def step():
        for driver in drivers:
            driver.moved += 1000

    now = run(meter, drivers, 3, step)
    assert meter.goodput(now) == 16_000
    assert meter.goodput(run(meter, drivers, 1, lambda: None, start=now)) == 0


def test_loss_is_of_both_directions_and_only_where_enough_was_sent():
    meter, driver = PathMeter(), Driven()
    driver.near, driver.far = DirectionCounts(10**9, 10**8, 0.0), DirectionCounts(0, 0, 0.0)
    take(meter, 0.0, [driver])
    driver.far = DirectionCounts(ENOUGH - 1, 1000, 0.0)
    take(meter, 0.1, [driver])
    assert meter.loss(0.1) is None
    driver.near = DirectionCounts(10**9 + 10_001, 10**8 + 1000, 0.0)
    take(meter, 0.2, [driver])
    assert meter.loss(0.2) == pytest.approx(2000 / (ENOUGH + 10_000))
    take(meter, 3.0, [driver])
    assert meter.loss(3.0) is None  # long ago


def test_another_stream_counts_from_elsewhere():
    meter, driver = PathMeter(), Driven()
    driver.moved, driver.far = 1000, DirectionCounts(0, 0, 0.0)
    take(meter, 0.0, [driver])
    driver.stream, driver.moved, driver.far = object(), 2000, DirectionCounts(10**9, 10**8, 0.0)
    take(meter, 0.1, [driver])
    assert meter.goodput(0.1) == 0
    assert meter.loss(0.1) is None
    driver.moved = 2500
    take(meter, 0.2, [driver])
    assert meter.goodput(0.2) == 500


def test_who_was_held_most_says_how_far_the_lane_is_the_limit():
    meter, drivers = PathMeter(), [Driven(), Driven()]
    for driver in drivers:
        driver.near = driver.far = DirectionCounts(0, 0, 0.0)
    take(meter, 0.0, drivers)

    def step():
        drivers[0].near = DirectionCounts(0, 0, drivers[0].near.send_blocked_seconds + 0.025)
        drivers[1].far = DirectionCounts(0, 0, drivers[1].far.send_blocked_seconds + 0.1)

    now = run(meter, drivers, 2, step)
    assert meter.limited(now) == pytest.approx(0.8)
    drivers[1].far = DirectionCounts(0, 0, 100.0)  # told late, of all that time
    take(meter, now + 0.1, drivers)
    assert meter.limited(now + 0.1) == 1.0


def test_the_round_trip_is_the_shortest_of_those_that_carry_and_stays_while_they_pause():
    meter, drivers = PathMeter(), [Driven(), Driven(), Driven()]
    take(meter, 0.0, drivers)
    assert meter.rtt is None
    for driver, rtt, moved in zip(drivers, (0.3, 0.2, 0.1), (1, 1, 0), strict=True):
        driver.rtt, driver.moved = rtt, moved
    take(meter, 0.1, drivers)
    assert meter.rtt == 0.2
    take(meter, 0.2, drivers)
    assert meter.rtt == 0.2
    take(meter, 0.3, [])
    assert meter.rtt is None


def test_it_remembers_two_seconds():
    meter, driver = PathMeter(), Driven()
    run(meter, [driver], 100, lambda: None)
    assert len(meter._samples) <= 18
    take(meter, 200.0, [])
    assert not meter._before
