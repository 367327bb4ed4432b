"""Lanes: probes, who gives a stream first, turns, and a network that changes."""

import os
import shutil
import subprocess
import sys
import time

import gevent
import pytest

from lane.carriers import lanes as lanes_module
from lane.carriers import probe as probe_module
from lane.carriers.turns import Turns
from lane.errors import Unreachable
from lane.testing.harness import until
from tests.support.beds import making_beds

WATCH = """
import gevent
from lane.carriers.network import watch
done = gevent.event.Event()
watcher = watch(done.set)
gevent.sleep(0.1)
from gevent import subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
print(done.wait(20))
"""


@pytest.fixture
def beds():
    with making_beds(ways=("cheap", "dear")) as make:
        yield make


def exchange(app, text=b"hello"):
    app.sock.sendall(text)
    return app.sock.recv(100) == text


def test_a_lane_that_nobody_uses_is_known_as_well(beds):
    bed = beds()
    app = bed.application()
    until(lambda: all(lane.probe.alive for lane in bed.lanes.lanes.values()))
    rows = bed.lanes.snapshot()["lanes"]
    assert [(row["name"], row["carries"], row["alive"]) for row in rows] == [
        ("cheap", True, True), ("dear", False, True)
    ]  # fmt: skip
    assert all(row["best_rtt"] > 0 and row["rtt"] > 0 for row in rows)
    assert exchange(app)


def test_the_first_lane_that_gives_a_stream_is_taken(beds):
    bed = beds()
    bed.ways["cheap"].blocked = True
    app = bed.application()
    assert exchange(app)
    (passage,) = bed.lanes._passages.values()
    assert passage.lane.name == "dear"
    until(lambda: bed.lanes.choice.name == "dear")
    assert "cheap" in bed.lanes.snapshot()["changes"][0]["from"]


def test_a_lane_that_keeps_silent_does_not_hold_the_others_up(beds, monkeypatch):
    monkeypatch.setattr(lanes_module, "HEAD_START", 0.02)
    bed = beds()
    gate, dial = gevent.event.Event(), bed.ways["cheap"].dial
    bed.ways["cheap"].dial = lambda *where: gate.wait() and dial(*where)
    assert exchange(bed.application())
    assert bed.ways["dear"].carriers
    gate.set()
    carriers = bed.ways["cheap"].carriers
    until(lambda: carriers)  # it is kept, for who comes next


def test_where_no_lane_works_the_first_failure_is_told(beds):
    bed = beds()
    for way in bed.ways.values():
        way.blocked = True
    with pytest.raises(Unreachable, match="the network is cut"):
        bed.lanes.lease()
    with pytest.raises(Unreachable):
        bed.lanes.best(0.05)


def test_a_probe_dials_again_while_sessions_wait_and_seldom_else(beds, monkeypatch):
    monkeypatch.setattr(probe_module, "AGAIN", 0.01)
    bed = beds()
    app = bed.application()
    probe = bed.lanes.lanes["dear"].probe
    until(lambda: probe.alive)
    bed.ways["dear"].cut()
    probe.check()
    until(lambda: probe.alive is False)
    assert probe.why == "the network is cut"
    dials = bed.ways["dear"].dials
    until(lambda: bed.ways["dear"].dials > dials + 3)
    bed.ways["dear"].blocked = False
    until(lambda: probe.alive)
    assert exchange(app)


def test_a_change_of_the_network_is_a_reason_to_ask_now(beds):
    bed = beds()
    app = bed.application()
    probes = [lane.probe for lane in bed.lanes.lanes.values()]
    until(lambda: all(probe.alive and not probe.silence(time.monotonic()) for probe in probes))
    for way in bed.ways.values():
        way.held = True  # packets get lost on the way
    bed.lanes.network_changed()
    until(lambda: all(probe.alive is False for probe in probes))
    for way in bed.ways.values():
        way.held = False
    assert exchange(app)


def test_nobody_is_asked_without_sessions(beds, monkeypatch):
    monkeypatch.setattr(probe_module, "UNUSED", 0.2)
    monkeypatch.setattr(probe_module, "EVERY", 0.01)
    monkeypatch.setattr(probe_module, "SELDOM", 0.01)
    bed = beds()
    app = bed.application()
    probes = [lane.probe for lane in bed.lanes.lanes.values()]
    until(lambda: all(probe.alive for probe in probes))
    app.sock.close()
    until(lambda: not bed.lanes._passages)
    until(lambda: all(probe.alive is None for probe in probes))


def test_turns_are_given_one_by_one_and_the_urgent_come_first():
    turns, order = Turns(200.0), []

    def take(name, urgent):
        turns.wait(60.0, urgent=urgent)
        order.append(name)

    jobs = [gevent.spawn(take, name, urgent) for name, urgent in [("a", False), ("b", False), ("c", True)]]
    start = time.monotonic()
    gevent.joinall(jobs)
    assert order == ["c", "a", "b"]
    assert time.monotonic() - start >= 2 / 200 * 0.9
    assert len(turns) == 0
    turns.close()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_the_kernel_tells_of_changes():
    command = ["unshare", "--net", sys.executable, "-c", WATCH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip("no network namespaces here")
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr
