"""The test that says whether something grows: it must find leaks, and must not cry wolf."""

import math
import random

import growth
import pytest

SECS, EVERY = 1200, 5
LEAST = 2.0
SEEDS = range(40)


def series(shape, noise=0.0, seed=0, secs=SECS, every=EVERY):
    """Samples of `shape(second)`, with normal noise."""
    chance = random.Random(seed)
    return [(t, shape(t) + chance.gauss(0, noise)) for t in range(0, secs + 1, every)]


def grows(shape, noise=0.0, seed=0, **more):
    return growth.trend(series(shape, noise, seed, **more), LEAST).grows


def flat(t):
    return 100.0


def leak(rise):
    """So much in the half that counts."""
    return lambda t: 100 + rise * t / (SECS / 2)


def warm_up(seconds, size=60.0):
    return lambda t: 100 + size * (1 - math.exp(-t / seconds))


def stairs(each, every):
    return lambda t: 100 + each * (t // every)


def step(at, size=16.0):
    return lambda t: 100 + size * (t >= at)


@pytest.mark.parametrize("noise", [0, 0.5, 2])
def test_what_is_flat_does_not_grow(noise):
    assert not any(grows(flat, noise, seed) for seed in SEEDS)


@pytest.mark.parametrize(("times", "noise"), [(1.5, 0), (2, 0.5), (4, 1), (8, 2)])
def test_a_small_leak_is_found(times, noise):
    assert all(grows(leak(times * LEAST), noise, seed) for seed in SEEDS)


def test_what_is_less_than_the_least_does_not_count():
    assert not grows(leak(0.9 * LEAST))
    assert grows(leak(1.1 * LEAST))


@pytest.mark.parametrize("seconds", [30, 60, 120])
def test_a_warm_up_that_comes_to_its_end_passes(seconds):
    assert not any(grows(warm_up(seconds), 0.5, seed) for seed in SEEDS)


def test_a_warm_up_that_does_not_end_is_a_leak():
    assert grows(warm_up(SECS))


@pytest.mark.parametrize("at", range(500, 1200, 70))
def test_one_step_to_a_new_level_passes(at):
    assert not any(grows(step(at), 0.2, seed) for seed in SEEDS)


@pytest.mark.parametrize("every", [60, 110, 180])
def test_steps_that_go_on_are_a_leak(every):
    assert all(grows(stairs(3, every), 0.5, seed) for seed in SEEDS)


def test_what_breathes_with_the_load_passes():
    for seed in SEEDS:
        assert not grows(lambda t: 100 + 30 * (t % 60 < 20), 1, seed)
        assert not grows(lambda t: 100 + 30 * math.sin(t / 60 * 2 * math.pi), 1, seed)


def test_a_leak_is_found_beneath_the_breathing():
    assert all(grows(lambda t: leak(3 * LEAST)(t) + 30 * (t % 60 < 20), 1, seed) for seed in SEEDS)


def test_what_wanders_more_than_it_grows_passes():
    """From cycle to cycle: what rises by chance must be more than that to count."""
    heights = [0, 25, 10, 30, 5, 28, 12, 35, 8, 31]
    wander = [(t, 100 + heights[int(t / 60) % 10]) for t in range(0, SECS + 1, EVERY)]
    assert not growth.trend(wander, LEAST).grows
    steady = [(t, value + t / 10) for t, value in wander]
    assert growth.trend(steady, LEAST).grows


def test_a_few_wild_values_do_not_matter():
    wild = [(t, 5000 if t in (700, 905, 1190) else v) for t, v in series(flat)]
    assert not growth.trend(wild, LEAST).grows
    wild = [(t, 0 if t in (700, 905, 1190) else v) for t, v in series(leak(2 * LEAST))]
    assert growth.trend(wild, LEAST).grows


def test_what_falls_does_not_grow():
    assert not grows(lambda t: 1000 - t / 10)


def test_what_a_trend_tells():
    found = growth.trend(series(leak(8)), 1, relative=0.01)
    assert found.rise == pytest.approx(8, rel=0.01)
    assert found.level == pytest.approx(112, abs=0.1)
    assert found.least == pytest.approx(2.12, abs=0.01)
    assert found.grows


def test_counts_that_are_mostly_the_same_number():
    assert not grows(lambda t: 7 + (t % 60 == 0))
    assert grows(lambda t: 7 + t // 120)


def test_where_nothing_was_measured_nothing_is_said():
    for samples in ([], [(0, 1)], [(0, 1), (0, 1)], series(flat, secs=20)):
        with pytest.raises(growth.TooFew):
            growth.trend(samples, LEAST)
