"""Turns of users that keep the process busy: by user, not by greenlet, and only while there are several."""

from collections import Counter
from time import monotonic

import gevent

from lane.fair import QUANTUM
from lane.users.turns import RECENT, Turns


def burn(seconds):
    end = monotonic() + seconds
    while monotonic() < end:
        pass


def work(turns, user, got, size=100_000, step=QUANTUM / 2):
    while True:
        burn(step)
        got[user] += size
        turns.take(user, size)


def shares(jobs, got, until=600):
    while sum(got.values()) < until * 100_000:
        gevent.sleep(0.01)
    gevent.killall(jobs)
    return {user: size / sum(got.values()) for user, size in got.items()}


def test_a_user_with_many_busy_sessions_gets_no_more_than_one_with_a_single_one():
    turns, got = Turns(), Counter()
    jobs = [gevent.spawn(work, turns, user, got) for user in ["many"] * 20 + ["one"]]
    found = shares(jobs, got)
    assert 0.4 <= found["one"] <= 0.6


def test_what_a_user_leaves_goes_to_the_others():
    turns, got = Turns(), Counter()

    def rare():
        while True:
            gevent.sleep(0.01)
            got["rare"] += 1000
            turns.take("rare", 1000)

    jobs = [*(gevent.spawn(work, turns, user, got) for user in ["a"] * 10 + ["b"]), gevent.spawn(rare)]
    found = shares(jobs, got)
    assert abs(found["a"] - found["b"]) < 0.15
    assert found["a"] + found["b"] > 0.9


def test_small_steps_are_not_free():
    turns, got = Turns(), Counter()
    jobs = [
        gevent.spawn(work, turns, "bulk", got, 100_000),
        *(gevent.spawn(work, turns, "tiny", got, 100) for _ in range(20)),
    ]
    while got["bulk"] < 100 * 100_000:
        gevent.sleep(0.01)
    gevent.killall(jobs)
    assert got["tiny"] / 100 < 12 * got["bulk"] / 100_000  # steps: 20 times as many without turns


def test_a_single_user_stands_in_no_line(monkeypatch):
    turns, got = Turns(), Counter()
    turns.take("before", 1)
    gevent.sleep(RECENT + 0.01)
    turns.take("one", 1)  # follows on another one
    gevent.sleep(RECENT + 0.01)
    monkeypatch.setattr(turns, "_stand_in_line", None)
    jobs = [gevent.spawn(work, turns, "one", got) for _ in range(10)]
    assert shares(jobs, got, 50) == {"one": 1.0}
    assert not turns._serving


def test_the_line_ends_and_begins_again():
    turns, got = Turns(), Counter()
    for _ in range(2):
        jobs = [gevent.spawn(work, turns, user, got) for user in "aabb"]
        shares(jobs, got, 50)
        got.clear()
        gevent.sleep(0.05)
        assert (len(turns._line), turns._serving) == (0, False)


def test_who_need_not_stand_in_line_passes_at_once():
    turns = Turns()
    turns.may_pass("one", 100)
    gevent.sleep(2 * RECENT)
    burn(2 * QUANTUM)
    assert turns.may_pass("one", 100)  # alone, however long this takes
    assert not turns.may_pass("two", 100)
    assert not turns.may_pass("one", 100)
    gevent.sleep(0.001)
    assert turns.may_pass("one", 100)  # others had their turn since
