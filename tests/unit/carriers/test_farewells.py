"""Aborts that the server may not know of are told a few at a time, and are bounded."""

import gevent
import pytest
from gevent.event import Event

from lane.carriers import farewells as module
from lane.carriers.farewells import AT_ONCE, MOST, Farewells
from lane.testing.harness import until


@pytest.fixture
def farewells():
    made = Farewells()
    yield made
    made.close()


def test_a_few_at_a_time_and_one_that_fails_costs_no_other(farewells, caplog):
    gate, begun, done = Event(), [], []

    def say(until):
        begun.append(until)
        gate.wait()
        if len(done) == 2:
            done.append("failed")
            raise RuntimeError("a bug")
        done.append("said")

    for _ in range(20):
        farewells.add(say, 1000.0)
    until(lambda: len(begun) == AT_ONCE)
    gevent.sleep(0.01)
    assert len(begun) == AT_ONCE
    assert len(farewells) == 20
    gate.set()
    until(lambda: len(done) == 20)
    assert "telling the server of the end of a session failed" in caplog.text
    until(lambda: not farewells)


def test_they_are_bounded_and_the_oldest_is_dropped(farewells):
    gate, said = Event(), []
    for _ in range(AT_ONCE):
        farewells.add(lambda until: gate.wait(), 1000.0)
    until(lambda: not farewells._waiting)
    for number in range(MOST + 10):
        farewells.add(lambda until, number=number: said.append(number), 1000.0)
    assert len(farewells) == MOST + AT_ONCE
    gate.set()
    until(lambda: not farewells)
    assert said == list(range(10, MOST + 10))


def test_what_is_too_late_is_not_told_and_nothing_after_the_end(farewells, monkeypatch):
    said = []
    monkeypatch.setattr(module, "start", lambda run: None)  # until later
    farewells.add(said.append, 0.0)
    farewells.add(said.append, 1000.0)
    farewells._run()
    assert len(said) == 1
    farewells.close()
    farewells.add(said.append, 1000.0)
    assert not farewells._waiting
