"""When a session asks whether its path lives, and what it makes of the answers."""

import pytest

from lane.session.liveness import MOST_PATIENCE, QUIET, RTT_AGE, UNKNOWN_RTT, Liveness
from lane.stream import LinkStats


class Clock:
    now = 100.0


@pytest.fixture
def clock():
    return Clock()


def begun(clock, rtt):
    """On a path of which the carrier says that it takes `rtt`; None: it does not know."""
    live = Liveness(clock.now)
    live.measured(LinkStats(rtt=rtt), clock.now)
    return live


@pytest.mark.parametrize(("rtt", "quiet"), [(None, max(QUIET, 3 * UNKNOWN_RTT)), (0.01, QUIET), (0.2, 0.6)])
def test_it_asks_after_three_round_trips_at_least(clock, rtt, quiet):
    live = begun(clock, rtt)
    assert not live.silent(clock.now + quiet - 0.001)
    assert live.silent(clock.now + quiet + 0.001)


def test_one_question_at_a_time(clock):
    live = begun(clock, 0.01)
    value = live.ask(clock.now)
    assert live.asked
    assert not live.silent(clock.now + 100)
    assert not live.answered(value + 1)
    assert live.asked
    assert live.answered(value)
    assert not live.answered(value)


def test_a_path_that_answers_is_asked_less_and_less_until_data_come(clock):
    live = begun(clock, 0.01)
    for doublings in range(1, 4):
        live.answered(live.ask(clock.now))
        assert not live.silent(clock.now + QUIET * 2**doublings - 0.001)
        assert live.silent(clock.now + QUIET * 2**doublings + 0.001)
    live.moved()
    assert live.silent(clock.now + QUIET + 0.001)


def test_a_peer_that_asks_is_asked_less_itself(clock):
    """A pair of idle sessions finds out with the questions of one of them."""
    live = begun(clock, 0.01)
    live.questioned()
    assert not live.silent(clock.now + 2 * QUIET - 0.001)
    assert live.silent(clock.now + 2 * QUIET + 0.001)


def test_an_answer_measures_the_path_where_the_carrier_does_not(clock):
    live = Liveness(clock.now)
    assert live.rtt == UNKNOWN_RTT
    value = live.ask(clock.now)
    clock.now += 0.08
    live.heard = clock.now
    live.answered(value)
    assert live.rtt == pytest.approx(0.08, abs=1e-5)


def test_figures_of_the_carrier_count_for_a_while(clock):
    live = Liveness(clock.now)
    assert clock.now >= live.link_expires
    live.measured(LinkStats(rtt=0.02), clock.now)
    assert live.rtt == 0.02
    assert clock.now < live.link_expires
    clock.now += RTT_AGE
    assert clock.now >= live.link_expires


def test_silence_is_counted_from_the_question_or_from_what_came_since(clock):
    live = Liveness(clock.now)
    clock.now += 5
    assert live.silence(clock.now) == 0  # nothing was asked: nothing is due
    value = live.ask(clock.now)
    clock.now += 2
    assert live.silence(clock.now) == pytest.approx(2)
    live.heard = clock.now - 0.5  # something came, if not the answer
    assert live.silence(clock.now) == pytest.approx(0.5)
    live.answered(value)
    assert live.silence(clock.now) == 0


def test_on_another_path_nothing_was_asked_and_its_figures_count(clock):
    live = begun(clock, 0.01)
    live.ask(clock.now)
    clock.now += 9
    live.begin(clock.now)
    assert live.rtt == UNKNOWN_RTT
    live.measured(LinkStats(rtt=0.2), clock.now)
    assert not live.asked
    assert live.silence(clock.now) == 0
    assert live.rtt == 0.2


def test_patience_is_bounded_however_often_it_doubles(clock):
    """A float can't be divided by 2 ** 1024: all sessions of the process lost their clock by it."""
    live = begun(clock, 0.01)
    for _ in range(3000):
        live.questioned()
        live.answered(live.ask(clock.now))
        live.silent(clock.now + 1)
    assert not live.silent(clock.now + QUIET * MOST_PATIENCE - 0.001)
    assert live.silent(clock.now + QUIET * MOST_PATIENCE + 0.001)
