"""Turns to dial: a few at once, the urgent ones first, and none for who is gone."""

import gevent
import pytest
from gevent.event import Event

from lane.carriers import dial_limiter as module
from lane.carriers.dial_limiter import DialLimiter
from lane.testing.harness import until


@pytest.fixture
def turns():
    """Turns at a rate that no test lives to see: only dials that end make room for others."""
    made = DialLimiter(1 / 3600)
    yield made
    made.close()


def take(turns, given, name, over=None, **options):
    """Take a turn until `over` is set."""
    with turns.turn(60.0, urgent=True, **options) as one:
        if one:
            given.append(name)
        if over is not None:
            over.wait()


def test_dials_that_end_set_the_pace(turns):
    given = []
    gevent.joinall([gevent.spawn(take, turns, given, number) for number in range(100)])
    assert given == [*range(100)]
    assert len(turns) == 0


def test_dials_that_hang_make_others_wait(turns):
    given, over = [], [Event() for _ in range(30)]
    jobs = [gevent.spawn(take, turns, given, number, over[number]) for number in range(30)]
    until(lambda: len(given) == module.AT_ONCE)
    gevent.idle()
    assert given == [*range(module.AT_ONCE)]
    over[3].set()
    until(lambda: len(given) == module.AT_ONCE + 1)
    jobs[5].kill()  # its dial is not under way any more either
    until(lambda: len(given) == module.AT_ONCE + 2)
    gevent.killall(jobs)


def test_requests_that_hang_make_others_wait(turns):
    given, over = [], Event()
    jobs = [gevent.spawn(take, turns, given, number, over, dials=lambda: False) for number in range(50)]
    until(lambda: len(given) == module.REQUESTS)
    gevent.idle()
    assert len(given) == module.REQUESTS
    over.set()
    gevent.joinall(jobs)
    assert len(given) == 50


def test_dials_that_hang_do_not_stop_the_others():
    turns, given, over = DialLimiter(1000.0), [], Event()
    jobs = [gevent.spawn(take, turns, given, number, over) for number in range(30)]
    until(lambda: len(given) == 30)
    over.set()
    gevent.joinall(jobs)
    turns.close()


def test_the_dead_take_no_turn(turns, monkeypatch):
    """Thirty applications that left delay nobody."""
    monkeypatch.setattr(module, "AT_ONCE", 1)
    given = []
    jobs = [gevent.spawn(take, turns, given, number, wanted=lambda: False) for number in range(30)]
    jobs += [gevent.spawn(take, turns, given, "live")]
    gevent.joinall(jobs)
    assert given == ["live"]
    assert len(turns) == 0


def test_those_that_need_no_dial_any_more_do_not_wait_for_each_other(turns):
    """The first one dials, and the others share its carrier."""
    given, over = [], Event()
    jobs = [
        gevent.spawn(take, turns, given, number, over, dials=lambda: not given) for number in range(30)
    ]  # fmt: skip
    until(lambda: len(given) == 30)
    over.set()
    gevent.joinall(jobs)


def test_who_was_killed_while_waiting_takes_none(turns, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 1)
    turns._giver.kill()  # nobody gets a turn meanwhile
    given = []
    killed = [gevent.spawn(take, turns, given, number) for number in range(30)]
    live = gevent.spawn(take, turns, given, "live")
    gevent.idle()
    gevent.killall(killed)
    giver = gevent.spawn(turns._give)
    live.get(timeout=60)
    assert given == ["live"]
    giver.kill()


def test_a_turn_has_a_deadline(turns):
    turns._giver.kill()
    with turns.turn(0.01, urgent=True) as given:
        assert not given
    giver = gevent.spawn(turns._give)
    until(lambda: len(turns) == 0)  # what gave up leaves nothing behind
    giver.kill()
