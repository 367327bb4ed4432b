"""Rates between two looks, and which sessions are shown."""

from types import SimpleNamespace

from lane.address import Address
from lane.look.rates import LEAST, MOST, Rates
from lane.look.sessions import MOST as MOST_SHOWN
from lane.look.sessions import choose, name_of


def test_rates_are_of_the_time_between_two_looks():
    rates = Rates()
    assert rates.look(100.0, {1: (0, 0), 2: (5, 5)}) == {}
    assert rates.look(102.0, {1: (10, 400), 2: (5, 5), 3: (9, 9)}) == {1: (5, 200)}
    assert rates.look(103.0, {3: (9, 10)}) == {3: (0, 1)}
    assert len(rates) == 1


def test_two_who_look_at_the_same_time_get_the_same_rates():
    rates = Rates()
    rates.look(100.0, {1: (0, 0)})
    assert rates.look(101.0, {1: (10, 0)}) == {1: (10, 0)}
    assert rates.look(101.0 + LEAST / 2, {1: (11, 0)}) == {1: (10, 0)}
    assert rates.look(102.0, {1: (20, 0)}) == {1: (10, 0)}


def test_nothing_is_kept_and_nothing_is_told_after_a_long_time():
    rates = Rates()
    rates.look(100.0, {1: (0, 0)})
    rates.forget(100.0 + MOST)
    assert len(rates) == 1
    rates.forget(101.0 + MOST)
    assert len(rates) == 0
    rates.look(200.0, {1: (0, 0)})
    assert rates.look(201.0 + MOST, {1: (5, 5)}) == {}


def test_sessions_that_move_most_come_first_and_then_the_newest():
    sessions = [SimpleNamespace(number=number) for number in range(3 * MOST_SHOWN)]
    rates = {7: (0.0, 5.0), 3: (9.0, 0.0)}
    found = choose(sessions[:10], lambda: reversed(sessions), rates)
    assert len(found) == MOST_SHOWN
    assert [one.number for one in found[:4]] == [3, 7, 3 * MOST_SHOWN - 1, 3 * MOST_SHOWN - 2]
    busy = dict.fromkeys(range(3 * MOST_SHOWN), (1.0, 1.0))
    assert len({one.number for one in choose(sessions, lambda: reversed(sessions), busy)}) == MOST_SHOWN
    assert [one.number for one in choose(sessions[:9], lambda: reversed(sessions[:9]), rates)][-1] == 0


def test_names_are_short():
    assert name_of(None) == "UDP"
    assert name_of(Address("a.test", 80)) == "a.test:80"
    assert len(name_of(Address("x" * 5000, 80))) < 300
