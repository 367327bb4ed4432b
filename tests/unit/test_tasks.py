"""Tasks: each runs once, beside others, whatever those do; and greenlets are used again, within a bound."""

import weakref

import gevent
import pytest
from gevent import get_hub
from gevent.event import Event
from greenlet import getcurrent

from lane import tasks
from lane.tasks import aside, start


@pytest.fixture(autouse=True)
def _none_idle():
    tasks._idle.runners.clear()


def test_it_runs_beside_the_caller_with_its_arguments():
    done = []
    start(done.append, 1)
    start(done.append, 2)
    assert not done
    gevent.sleep(0)
    assert done == [1, 2]


def test_one_greenlet_runs_one_task_after_the_other():
    ran = set()
    for _ in range(100):
        start(lambda: ran.add(getcurrent()))
        gevent.sleep(0)
    assert len(ran) == 1


def test_a_task_that_waits_keeps_its_greenlet_to_itself():
    go, ran = Event(), []

    def wait(number):
        go.wait()
        ran.append((number, getcurrent()))

    for number in range(10):
        start(wait, number)
    gevent.sleep(0)
    go.set()
    gevent.sleep(0)
    assert sorted(number for number, _ in ran) == list(range(10))
    assert len({greenlet for _, greenlet in ran}) == 10


@pytest.mark.parametrize("error", [ValueError("no"), gevent.Timeout(1)])
def test_an_exception_is_reported_and_ends_only_its_task(error, monkeypatch):
    told, done = [], []

    def fail():
        raise error

    hub = gevent.get_hub()
    monkeypatch.setattr(hub, "handle_error", lambda context, kind, value, trace: told.append(value))
    start(fail)
    gevent.sleep(0)
    start(done.append, 1)
    gevent.sleep(0)
    assert (told, done) == ([error], [1])


def test_few_greenlets_wait_for_more():
    go = Event()
    for _ in range(3 * tasks.MOST_IDLE):
        start(go.wait)
    gevent.sleep(0)
    go.set()
    gevent.sleep(0)
    assert len(tasks._idle.runners) == tasks.MOST_IDLE


def test_those_that_wait_end_once_they_are_let_go():
    start(lambda: None)
    gevent.sleep(0)
    (runner,) = tasks._idle.runners
    tasks.let_go()
    gevent.sleep(0)
    assert runner.dead
    assert not tasks.idle()


def test_a_greenlet_that_waits_holds_nothing_of_its_task():
    class Held:
        pass

    held = Held()
    known = weakref.ref(held)
    start(lambda held: None, held)
    del held
    gevent.sleep(0)
    assert tasks._idle.runners
    assert known() is None


def test_one_that_is_killed_does_not_come_back():
    start(lambda: getcurrent().throw())
    gevent.sleep(0)
    assert not tasks._idle.runners


def test_what_fails_in_a_thread_fails_for_its_caller_only(caplog, capsys):
    def fail():
        raise OSError("a full disk")

    room = get_hub().threadpool
    assert aside(room, lambda: 7) == 7
    with pytest.raises(OSError, match="a full disk"):
        aside(room, fail)
    assert (caplog.text, capsys.readouterr().err) == ("", "")
