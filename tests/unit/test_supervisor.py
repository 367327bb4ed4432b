"""Loops that live as long as the process: a failure is logged once, and they go on."""

import ast
import sys
import threading
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from lane import supervisor
from lane.log import Throttle
from lane.supervisor import LEAST_PAUSE, MOST_PAUSE, STEADY, report_all, supervise
from lane.tasks import start
from tests.support.clock import give_gevent
from tests.support.sources import SOURCES, findings


class Clock:
    """Sleeping passes its time at once."""

    def __init__(self):
        self.now, self.pauses = 1000.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(supervisor, "monotonic", clock)
    give_gevent(monkeypatch, supervisor, sleep=clock.sleep)
    monkeypatch.setattr(supervisor, "_throttle", Throttle(clock=clock))
    return clock


class Loop:
    """Raises what it is given, one at a call, then returns. `ran`: seconds that it runs before."""

    def __init__(self, clock, errors, ran=0.0):
        self.clock, self.errors, self.ran, self.calls = clock, errors, ran, 0

    def __call__(self):
        self.calls += 1
        self.clock.now += self.ran
        if self.calls <= len(self.errors):
            error = self.errors[self.calls - 1]
            raise type(error)(*error.args)  # one that is raised again and again gets a long traceback


@pytest.mark.parametrize("error", [ValueError("no"), OverflowError(), gevent.Timeout(1)])
def test_a_loop_that_fails_goes_on(clock, caplog, error):
    loop = Loop(clock, [error])
    supervise("the test", loop).get(timeout=60)
    assert loop.calls == 2
    [record] = caplog.records
    assert record.getMessage() == "the test failed"
    assert record.exc_info[0] is type(error)


def test_the_same_failure_is_logged_once_a_minute_and_tried_less_and_less(clock, caplog):
    loop = Loop(clock, [ValueError("no")] * 12)
    supervise("the test", loop).get(timeout=60)
    assert clock.pauses == [min(LEAST_PAUSE * 2**n, MOST_PAUSE) for n in range(12)]
    minutes = int(sum(clock.pauses) / 60)
    assert caplog.records[0].getMessage() == "the test failed"
    assert 1 < len(caplog.records) <= 1 + minutes
    assert "times before that" in caplog.records[1].getMessage()


def test_pauses_are_bounded_for_ever(clock):
    loop = Loop(clock, [ValueError("no")] * 3000)  # 2 ** 1024 is more than a float can be
    supervise("the test", loop).get(timeout=60)
    assert max(clock.pauses) == MOST_PAUSE


def test_after_a_steady_time_the_pause_is_short_again(clock):
    loop = Loop(clock, [ValueError("no")] * 4, ran=STEADY + 1)
    supervise("the test", loop).get(timeout=60)
    assert clock.pauses == [LEAST_PAUSE] * 4


def test_its_owner_can_kill_it(clock, caplog):
    go = Event()
    loop = supervise("the test", go.wait)
    gevent.idle()
    loop.kill(timeout=60)
    assert loop.dead
    assert not caplog.records


@pytest.fixture
def reports(monkeypatch):
    """All goes to the log, until the end of the test."""
    hub = gevent.get_hub()
    for owner, name in [
        (hub, "print_exception"), (hub, "NOT_ERROR"), (hub, "SYSTEM_ERROR"),
        (threading, "excepthook"), (sys, "unraisablehook"), (supervisor, "_owners"),
    ]:  # fmt: skip
        monkeypatch.setattr(owner, name, [] if name == "_owners" else getattr(owner, name))
    report_all(lambda path: "mine" if path == __file__ else None)


@pytest.mark.parametrize("begin", [gevent.spawn, start, gevent.get_hub().loop.run_callback])
def test_what_a_greenlet_raises_is_in_the_log_and_not_on_standard_error(begin, clock, caplog, capfd, reports):
    def faulty():
        raise ValueError("no")

    begin(faulty)
    gevent.idle()
    [record] = caplog.records
    assert record.name == "lane.supervisor"
    assert record.exc_info[1].args == ("no",)
    assert "faulty" in record.getMessage()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [SystemExit(3), SystemError("no"), gevent.Timeout(1)])
def test_no_task_ends_the_process(clock, caplog, capfd, reports, error):
    def faulty():
        raise error

    gevent.spawn(faulty)
    gevent.idle()
    gevent.sleep(0)
    assert [type(error)] == [record.exc_info[0] for record in caplog.records]
    assert capfd.readouterr().err == ""


def test_the_plugin_that_a_fault_is_in_is_named(clock, caplog, reports):
    supervise("the test", Loop(clock, [ValueError("no")])).get(timeout=60)
    assert [record.getMessage() for record in caplog.records] == ["the test failed in the plugin mine"]


def test_what_a_thread_raises_is_in_the_log(clock, caplog, capfd, reports):
    thread = threading.Thread(target=lambda: 1 / 0, name="worker")
    thread.start()
    thread.join()
    assert [record.getMessage() for record in caplog.records] == [
        "the thread worker failed in the plugin mine"
    ]
    assert capfd.readouterr().err == ""


def spawned_for_ever(path: Path) -> list[str]:
    """Functions of the file that `gevent.spawn` starts although they have a loop without an end."""
    tree = ast.parse(path.read_text())
    endless = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.While) and isinstance(node.test, ast.Constant)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "gevent.spawn",
            "spawn",
            "Greenlet.spawn",
        ):
            name = ast.unparse(node.args[0]).rpartition(".")[2]
            if name in endless:
                found.append(name)
    return found


# What ends with one connection, which notices: each of them returns, or its caller waits for it.
ENDS = {
    ("supervisor.py", "_supervise"),
    ("server.py", "_serve"),  # a carrier, which is closed then
    ("http.py", "_send"),  # the body of a request; its caller waits for it
    ("upgrading.py", "_run"),  # one upgrade, while the new process lives
}


def test_no_endless_loop_is_without_a_supervisor():
    def wrong(path):
        return [name for name in spawned_for_ever(path) if (path.name, name) not in ENDS]

    # A test notices what fails in the kit for tests.
    assert findings(wrong, [path for path in SOURCES if "testing" not in path.parts]) == {}
