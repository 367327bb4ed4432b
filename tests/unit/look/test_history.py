"""The record of the last minutes: what it keeps, for how long, and of several processes."""

import os
from math import nan

from lane.look.history import SECONDS, History, Sample

NOW = 1_800_000_000


def test_what_is_newer_is_told_and_what_is_unknown_is_null():
    history = History(["tls", "quic"])
    for second in range(NOW - 3, NOW + 1):
        history.record(0, second, {"tls": Sample(goodput=second - NOW + 10.4, loss=0.0123456, carries=1.0)})
    told = history.tell(NOW - 2, NOW + 0.5)
    assert told["times"] == [NOW - 1, NOW]
    assert told["lanes"]["tls"] == {
        "goodput": [9, 10],
        "loss": [0.01235] * 2,
        "rtt": [None] * 2,
        "carries": [1] * 2,
    }
    assert set(map(tuple, told["lanes"]["quic"].values())) == {(None, None)}
    assert len(history.tell(0, NOW)["times"]) == 4
    assert history.tell(NOW, NOW)["times"] == history.tell(NOW + 5, NOW)["times"] == []


def test_it_keeps_fifteen_minutes_and_no_more():
    history = History(["tls"])
    for second in range(NOW, NOW + 3 * SECONDS):
        history.record(0, second, {"tls": Sample(1.0)})
    last = NOW + 3 * SECONDS - 1
    times = history.tell(0, last)["times"]
    assert (len(times), times[0], times[-1]) == (SECONDS, last - SECONDS + 1, last)
    assert history.tell(-1e300, last)["times"] == times


def test_a_second_that_was_missed_and_a_clock_that_was_set_back_leave_a_gap():
    history = History(["tls"])
    for second in (NOW, NOW + 2, NOW - 100):
        history.record(0, second, {})
    assert history.tell(0, NOW + 2)["times"] == [NOW - 100, NOW, NOW + 2]
    assert history.tell(0, NOW - 90)["times"] == [NOW - 100]


def test_several_processes_are_one():
    history = History(["quic"], writers=3)
    history.record(0, NOW, {"quic": Sample(100.0, loss=0.1, sent=1e6, rtt=0.01)})
    history.record(1, NOW, {"quic": Sample(50.0, loss=0.0, sent=3e6, rtt=0.03)})
    history.record(2, NOW, {"quic": Sample(nan, nan, 0.0)})
    history.record(1, NOW + 1, {"quic": Sample(7.0)})
    told = history.tell(0, NOW + 1)["lanes"]["quic"]
    assert told == {"goodput": [150, 7], "loss": [0.025, None], "rtt": [0.02, None], "carries": [None, None]}


def test_what_another_process_recorded_before_it_died_counts():
    history = History(["quic"], writers=2)
    if not (pid := os.fork()):
        history.record(1, NOW, {"quic": Sample(5.0)})
        os._exit(0)
    os.waitpid(pid, 0)
    assert history.tell(0, NOW)["lanes"]["quic"]["goodput"] == [5]
