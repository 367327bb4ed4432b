"""Turns: who never has to wait makes way all the same, and costs nothing before."""

import subprocess
import sys
import time

import gevent
import pytest

from lane import fair


@pytest.fixture
def passed(monkeypatch):
    calls = []
    monkeypatch.setattr(fair, "pass_turn", lambda: calls.append(1))
    gevent.sleep(0.001)  # the loop has just looked at its clock
    return calls


def test_nothing_happens_within_the_quantum(passed, monkeypatch):
    monkeypatch.setattr(fair, "QUANTUM", 60.0)
    fair.maybe_yield()
    gevent.sleep(0.001)  # it knows when the loop goes around from here on
    fair.maybe_yield()
    passed.clear()
    monkeypatch.setattr(fair, "monotonic", lambda: time.monotonic() + 59)
    fair.maybe_yield()
    assert not passed


def test_the_turn_is_passed_on_after_it(passed, monkeypatch):
    monkeypatch.setattr(fair, "QUANTUM", 60.0)
    monkeypatch.setattr(fair, "monotonic", lambda: time.monotonic() + 61)
    fair.maybe_yield()
    assert passed


def test_a_step_that_began_with_a_wait_has_given_way(passed, monkeypatch):
    waited_in = fair.this_round().began
    gevent.sleep(0.001)
    monkeypatch.setattr(fair, "monotonic", lambda: time.monotonic() + 61)
    fair.maybe_yield(waited_in)
    assert not passed
    fair.maybe_yield(fair.this_round().began)
    assert passed


def test_a_walk_gives_way_for_its_own_time_alone(passed, monkeypatch):
    monkeypatch.setattr(fair, "QUANTUM", 60.0)
    now = 1000.0
    monkeypatch.setattr(fair, "monotonic", lambda: now)  # the loop went around long ago
    walk = fair.Walk()
    walk.step()
    assert not passed
    now += 61
    walk.step()
    walk.step()
    assert len(passed) == 1


def test_others_run_beside_a_loop_that_never_waits():
    done = []
    other = gevent.spawn_later(0.005, done.append, 1)
    end = time.monotonic() + 20
    while not done and time.monotonic() < end:
        fair.maybe_yield()
    assert done
    other.join()


def test_turns_are_passed_on_where_there_are_no_descriptors():
    program = """
import resource, gevent
from lane import fair
gevent.sleep(0.001)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
fair.pass_turn()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_watchers_are_used_again_and_a_crowd_leaves_no_more_than_are_kept():
    watchers = fair._rounds().watchers
    gevent.joinall([gevent.spawn(fair.pass_turn) for _ in range(3 * fair.MOST_UNUSED)], raise_error=True)
    assert len(watchers) == fair.MOST_UNUSED
    kept = watchers[-1]
    fair.pass_turn()
    assert watchers[-1] is kept


def test_watchers_of_a_loop_that_has_ended_are_not_used():
    program = """
import gevent
from lane import fair
fair.pass_turn()
gevent.get_hub().destroy(destroy_loop=True)
fair.pass_turn()
assert all(watcher.loop is gevent.get_hub().loop for watcher in fair._rounds().watchers)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
