"""Happy eyeballs over anything: who starts when, who wins, what is remembered, and that nothing is left."""

import errno
import gc
import weakref

import gevent
import pytest
from gevent.event import Event

from lane.errors import Closed, Refused
from lane.net import race
from lane.net.race import Eyeballs


@pytest.fixture(autouse=True)
def _watchdog():
    with gevent.Timeout(30, AssertionError("the test hangs")):
        yield


class Line:
    """Attempts that succeed or fail when they are told to; what they make is their candidate's name."""

    def __init__(self):
        self.started, self.ended, self.discarded = [], [], []
        self.go = {}
        self.outcomes = {}

    def will(self, name, outcome=None):
        """What `name` ends with, at once."""
        self.outcomes[name] = outcome

    def attempt(self, name):
        self.started.append(name)
        try:
            if name not in self.outcomes:
                self.go.setdefault(name, Event()).wait()
            outcome = self.outcomes.get(name)
            if outcome is not None:
                raise outcome
            return name
        finally:
            self.ended.append(name)

    def run(self, eyeballs, *names, timeout=30.0):
        return eyeballs.connect("name", names, self.attempt, self.discarded.append, timeout)


@pytest.fixture
def line():
    return Line()


def refused():
    return ConnectionRefusedError(errno.ECONNREFUSED, "refused")


def unreachable():
    return OSError(errno.ENETUNREACH, "unreachable")


def test_the_first_wins_and_the_second_is_not_tried(line):
    line.will("a")
    assert line.run(Eyeballs(), "a", "b") == "a"
    assert line.started == ["a"]


def test_a_silent_one_is_overtaken_after_the_stagger(line, monkeypatch):
    monkeypatch.setattr(race, "STAGGER", 0.01)
    line.will("c")
    assert line.run(Eyeballs(), "a", "b", "c") == "c"
    assert line.started == ["a", "b", "c"]
    gevent.idle()
    assert sorted(line.ended) == ["a", "b", "c"]
    assert line.discarded == []


def test_one_that_fails_gives_way_at_once(line, monkeypatch):
    monkeypatch.setattr(race, "STAGGER", 3600)
    line.will("a", refused())
    line.will("b", Closed("no"))
    line.will("c")
    assert line.run(Eyeballs(), "a", "b", "c") == "c"


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([unreachable(), refused(), unreachable()], 1),
        ([refused(), Refused("wrong certificate")], 1),
        ([OSError(errno.ETIMEDOUT, "late"), Closed("no answer"), unreachable()], 1),
        ([unreachable(), OSError(errno.EADDRNOTAVAIL, "no port")], 1),
        ([unreachable(), OSError(errno.ETIMEDOUT, "late")], 1),
        ([unreachable()], 0),
    ],
)
def test_the_most_telling_error_is_told(line, errors, told):
    for number, error in enumerate(errors):
        line.will(number, error)
    with pytest.raises(type(errors[told])) as caught:
        line.run(Eyeballs(), *range(len(errors)))
    assert caught.value.args == errors[told].args


@pytest.mark.parametrize("count", [1, 2])
def test_nobody_answers_in_time(line, monkeypatch, count):
    monkeypatch.setattr(race, "STAGGER", 0.001)
    with pytest.raises(TimeoutError):
        line.run(Eyeballs(), *range(count), timeout=0.05)
    gevent.idle()
    assert len(line.started) == len(line.ended) == count


def test_what_comes_too_late_is_discarded(line, monkeypatch):
    """Two succeed in the same turn of the event loop: one wins, the other is not lost."""
    monkeypatch.setattr(race, "STAGGER", 0.001)
    running = gevent.spawn(line.run, Eyeballs(), "a", "b", "c")
    while len(line.go) < 3:
        gevent.sleep(0.001)
    for event in line.go.values():
        event.set()
    winner = running.get()
    gevent.idle()
    assert sorted([winner, *line.discarded]) == ["a", "b", "c"]


@pytest.mark.parametrize("end", ["kill", "timeout"])
def test_a_race_that_is_cut_short_leaves_nothing(line, monkeypatch, end):
    monkeypatch.setattr(race, "STAGGER", 0.001)
    running = gevent.spawn(line.run, Eyeballs(), "a", "b")
    while len(line.started) < 2:
        gevent.sleep(0.001)
    running.kill(gevent.Timeout() if end == "timeout" else gevent.GreenletExit)
    gevent.idle()
    assert sorted(line.ended) == ["a", "b"]


def test_a_bug_in_one_attempt_leaves_the_others(line, caplog):
    line.will("a", ZeroDivisionError())
    line.will("b")
    assert line.run(Eyeballs(), "a", "b") == "b"
    assert "ZeroDivisionError" in caplog.text
    line.will("b", unreachable())
    with pytest.raises(Closed, match="failed unexpectedly"):
        line.run(Eyeballs(), "a", "b")


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_an_error_that_is_told_holds_on_to_nothing(names):
    """What an attempt that failed had is gone when the race is over, without the collector."""
    marker = Event()
    held = weakref.ref(marker)

    def attempt(_, marker=marker):
        raise refused()

    gc.disable()
    try:
        with pytest.raises(ConnectionRefusedError):
            Eyeballs().connect("name", names, attempt, print, 30.0)
        del marker, attempt
        gevent.idle()
        assert held() is None
    finally:
        gc.enable()


# What is remembered


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(race, "STAGGER", 0.001)
    return Eyeballs()


def start_order(line, eyeballs, *names, **options):
    line.started.clear()
    line.run(eyeballs, *names, **options)
    return line.started.copy()


def test_who_overtook_is_tried_first_from_then_on(line, quick):
    line.will("b")
    assert start_order(line, quick, "a", "b") == ["a", "b"]
    assert start_order(line, quick, "a", "b") == ["b"]
    assert start_order(line, quick, "a", "c", "b") == ["b"]  # the name has got another address


def test_an_address_that_the_name_has_not_any_more_is_not_tried(line, quick):
    line.will("b")
    line.will("c")
    start_order(line, quick, "a", "b")
    assert start_order(line, quick, "a", "c") == ["a", "c"]


def test_who_is_remembered_may_fail(line, quick):
    line.will("b")
    start_order(line, quick, "a", "b")
    line.will("b", refused())
    line.will("a")
    assert start_order(line, quick, "a", "b") == ["b", "a"]
    assert start_order(line, quick, "a", "b") == ["a"]


def test_the_order_counts_again_after_a_while(line, quick, monkeypatch):
    line.will("b")
    start_order(line, quick, "a", "b")
    now = race.monotonic()
    monkeypatch.setattr(race, "monotonic", lambda: now + race.LIFE + 1)
    assert start_order(line, quick, "a", "b") == ["a", "b"]


def test_who_wins_in_his_turn_is_not_held_on_to(line, quick):
    """Names that turn their addresses around share the load out."""
    line.will("a")
    line.will("b")
    assert start_order(line, quick, "a", "b") == ["a"]
    assert start_order(line, quick, "b", "a") == ["b"]


def test_what_is_remembered_is_bounded(line, quick, monkeypatch):
    monkeypatch.setattr(race, "REMEMBERED", 10)
    line.will("b")
    for number in range(30):
        quick.connect(number, ("a", "b"), line.attempt, line.discarded.append, 30.0)
    assert len(quick._won) == 10
