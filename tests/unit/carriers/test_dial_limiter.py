"""Turns to dial: one after the other, the urgent ones first, and none for who is gone."""

import gevent
import pytest

from lane.carriers import dial_limiter as module
from lane.carriers.dial_limiter import DialLimiter
from lane.testing.harness import until
from tests.support.clock import give_gevent


@pytest.fixture
def turns(monkeypatch):
    """Turns without pauses, which are counted in `pauses`."""
    pauses = []
    give_gevent(monkeypatch, module, sleep=lambda seconds: pauses.append(seconds) or gevent.idle())
    made = DialLimiter(10.0)
    made.pauses = pauses
    yield made
    made.close()


def test_the_dead_take_no_turn(turns):
    """Thirty applications that left delay nobody."""
    order = []

    def take(name, wanted):
        order.append((name, turns.wait(60.0, urgent=True, wanted=lambda: wanted)))

    jobs = [gevent.spawn(take, number, False) for number in range(30)] + [gevent.spawn(take, "live", True)]
    gevent.joinall(jobs)
    assert ("live", True) in order
    assert sum(given for _, given in order) == 1
    assert turns.pauses == [0.1]
    assert len(turns) == 0


def test_those_that_need_no_dial_any_more_do_not_wait_for_each_other(turns):
    """The first one dials, and the others share its carrier."""
    ready = False

    def take(_):
        nonlocal ready
        given = turns.wait(60.0, urgent=True, dials=lambda: not ready)
        ready = True
        return given

    jobs = [gevent.spawn(take, number) for number in range(30)]
    gevent.joinall(jobs)
    assert all(job.value for job in jobs)
    assert turns.pauses == [0.1] + 29 * [module.SOON]


def test_who_was_killed_while_waiting_takes_none(turns):
    turns._giver.kill()  # nobody gets a turn meanwhile
    killed = [gevent.spawn(turns.wait, 60.0, urgent=True) for _ in range(30)]
    live = gevent.spawn(turns.wait, 60.0, urgent=False)
    gevent.idle()
    gevent.killall(killed)
    giver = gevent.spawn(turns._give)
    assert live.get(timeout=60)
    assert turns.pauses == [0.1]
    giver.kill()


def test_a_turn_has_a_deadline(turns):
    turns._giver.kill()
    assert not turns.wait(0.01, urgent=True)
    waiting = [gevent.spawn(turns.wait, 0.01, urgent=True) for _ in range(10)]
    gevent.joinall(waiting)
    assert not any(job.value for job in waiting)
    giver = gevent.spawn(turns._give)
    until(lambda: len(turns) == 0)  # those that gave up leave nothing behind
    assert 0.1 not in turns.pauses
    giver.kill()
