"""Looks that cost a fixed part of a core at most."""

from types import SimpleNamespace

from lane.look import sparing
from lane.look.sparing import SHARE, Sparing


def test_what_costs_more_is_found_out_less_often(monkeypatch):
    clock = SimpleNamespace(now=100.0, used=0.0, calls=0)
    monkeypatch.setattr(sparing, "monotonic", lambda: clock.now)
    monkeypatch.setattr(sparing, "thread_time", lambda: clock.used)

    def find():
        clock.calls += 1
        clock.used += 0.010
        return clock.calls

    dear = Sparing(find)
    assert [dear.look() for _ in range(3)] == [1, 1, 1]
    for _ in range(600):  # a minute, with ten looks a second
        clock.now += 0.1
        dear.look()
    assert clock.calls <= 1 + 60 * SHARE / 0.010
    dear.forget()
    clock.now += 0.010 / SHARE
    dear.forget()
    assert dear._kept == []
