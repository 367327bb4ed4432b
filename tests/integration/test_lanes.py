"""Lanes: probes, who gives a stream first, turns, and a network that changes."""

import socket
import struct
import time

import gevent
import pytest

from lane.carriers import dial_limiter as dial_limiter_module
from lane.carriers import lanes as lanes_module
from lane.carriers import probe as probe_module
from lane.carriers import race as race_module
from lane.carriers import request_stream as request_stream_module
from lane.carriers.dial_limiter import DialLimiter
from lane.carriers.path_selection import Decision
from lane.errors import Unreachable
from lane.net.path_memory import PATHS
from lane.testing.harness import outcome, until
from tests.support.beds import making_beds
from tests.support.namespaces import in_own_network

WATCH = """
import gevent
from lane.carriers.network import watch
done = gevent.event.Event()
watcher = watch(done.set)
gevent.idle()  # it listens
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
    rows = bed.paths.snapshot()["lanes"]
    assert [(row["name"], row["carries"], row["alive"]) for row in rows] == [
        ("cheap", True, True), ("dear", False, True)
    ]  # fmt: skip
    assert not any(row["best_rtt"] is None or row["rtt"] is None for row in rows)
    assert exchange(app)


def test_sessions_that_follow_each_other_share_a_stream(beds):
    bed = beds()
    streams, standby = set(), bed.lanes.lanes["cheap"].pool._standby
    for number in range(5):
        app = bed.application()
        assert exchange(app, b"hello %d" % number)
        (driver,) = bed.paths._drivers.values()
        streams.add(driver._stream.lease.stream)
        app.sock.shutdown(socket.SHUT_WR)
        assert app.sock.recv(1) == b""
        app.job.get()
        until(lambda: len(standby) == 1)
    assert len(streams) == 1
    until(lambda: not bed.server_registry.sessions)
    app = bed.application()
    assert exchange(app)
    app.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    app.sock.close()
    app.job.get()
    assert exchange(bed.application())
    assert not standby, "the stream of a session that was aborted is not used again"


def test_the_first_lane_that_gives_a_stream_is_taken(beds):
    bed = beds()
    bed.ways["cheap"].blocked = True
    app = bed.application()
    assert exchange(app)
    (driver,) = bed.paths._drivers.values()
    assert driver.lane.name == "dear"
    until(lambda: bed.lanes.choice.name == "dear")
    assert "cheap" in bed.paths.snapshot()["changes"][0]["from"]


def test_a_lane_that_keeps_silent_does_not_hold_the_others_up(beds, monkeypatch):
    monkeypatch.setattr(race_module, "HEAD_START", 0.02)
    bed = beds()
    gate, dial = gevent.event.Event(), bed.ways["cheap"].dial
    bed.ways["cheap"].dial = lambda *where: gate.wait() and dial(*where)
    assert exchange(bed.application())
    assert bed.ways["dear"].carriers
    gate.set()
    carriers = bed.ways["cheap"].carriers
    until(lambda: carriers)  # it is kept, for who comes next


def test_a_move_takes_a_fresh_stream_also_while_a_ping_has_no_answer_yet(beds):
    """A spare one may be from a time when the network was worse, and slow because of it."""
    wanted = ["cheap"]
    bed = beds(policy=lambda now, lanes, state: Decision(wanted[0], "", state))
    app = bed.application()
    assert exchange(app)
    until(lambda: all(lane.probe.alive for lane in bed.lanes.lanes.values()))
    dear = bed.lanes.lanes["dear"].pool
    dear._share = 1  # one stream for each carrier
    lease = dear.lease()
    lease.send(b"")
    dear._spares.add(lease)
    dials = bed.ways["dear"].dials
    bed.ways["cheap"].held = True
    app.session.ping()
    gevent.sleep(0.01)
    assert app.session.silence(time.monotonic()) > 0
    wanted[0] = "dear"
    bed.paths.paths_changed()
    (driver,) = bed.paths._drivers.values()
    until(lambda: driver.lane.name == "dear" and not driver.moving)
    assert bed.ways["dear"].dials == dials + 1
    assert exchange(app)


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
    PATHS.to("192.0.2.1").learn(1e6, 0.1, 0.0)
    bed.lanes.network_changed()
    assert PATHS.to("192.0.2.1").figures is None, "it is a path from another network"
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
    until(lambda: not bed.paths._drivers)
    until(lambda: all(probe.alive is None for probe in probes))


def test_a_race_is_one_where_the_first_lane_has_only_dead_spares(beds):
    bed = beds()
    pool = bed.lanes.lanes["cheap"].pool
    lease = pool.lease()
    lease.send(b"")
    pool._spares.add(lease)
    bed.ways["cheap"].cut()
    for _ in range(2):
        lane, found = bed.lanes.lease()
        assert lane.name == "dear"
        found.discard()
    assert len(pool) == 0


@pytest.mark.parametrize("fresh", [False, True])
def test_a_first_lane_that_hangs_has_its_head_start_and_no_more(beds, monkeypatch, fresh):
    monkeypatch.setattr(race_module, "HEAD_START", 0.01)
    bed = beds()
    gate = gevent.event.Event()
    if fresh:  # a carrier with room is not wanted
        bed.lanes.lanes["cheap"].pool.lease().discard()
    dial = bed.ways["cheap"].dial
    monkeypatch.setattr(bed.ways["cheap"], "dial", lambda *where: gate.wait() and dial(*where))
    lane, found = bed.lanes.lease(fresh=fresh)
    assert lane.name == "dear"
    found.discard()
    gate.set()


def test_while_no_lane_works_all_are_tried_at_once(beds, monkeypatch):
    bed = beds()
    app = bed.application()
    probes = [lane.probe for lane in bed.lanes.lanes.values()]
    until(lambda: all(probe.alive for probe in probes))
    for way in bed.ways.values():
        way.cut()
        probes[0].check()
        probes[1].check()
    until(lambda: all(probe.alive is False for probe in probes))
    assert bed.lanes.outage(time.monotonic()).reason == "the network is cut (cheap, dear)"
    with pytest.raises(Unreachable, match="the network is cut"):
        bed.lanes.lease()
    monkeypatch.setattr(probe_module, "AGAIN", 1000.0)  # no probe finds it out first
    gate, dial = gevent.event.Event(), bed.ways["cheap"].dial
    monkeypatch.setattr(bed.ways["cheap"], "dial", lambda *where: gate.wait() and dial(*where))
    bed.ways["dear"].blocked = False
    lane, found = bed.lanes.lease()
    assert lane.name == "dear"
    found.discard()
    gate.set()
    bed.ways["cheap"].blocked = False
    assert exchange(app)


def test_a_try_of_all_lanes_ends_soon(beds, monkeypatch):
    monkeypatch.setattr(lanes_module, "TRY", 0.01)
    bed = beds()
    gate = gevent.event.Event()
    for lane in bed.lanes.lanes.values():
        lane.probe.alive = False
    for way in bed.ways.values():
        monkeypatch.setattr(way, "dial", lambda *where: gate.wait())
    with pytest.raises(Unreachable, match="the server is not reached"):
        bed.lanes.lease()
    gate.set()


def test_a_probe_that_is_ended_while_it_dials_gives_all_back(beds):
    """It was about to say that it has a stream: nobody would have taken that."""
    bed = beds()
    lane = bed.lanes.lanes["cheap"]
    lane.probe.close()
    left = []
    lane.probe._lease = lambda fresh: left.append(lane.pool.lease()) or left[-1]
    for turns in range(12):  # ended after each number of turns of the event loop, until it has its stream
        lane.probe.want(active=True, waited_for=False)
        prober = gevent.spawn(lane.probe._reach)
        for _ in range(turns):
            gevent.sleep(0)
        prober.kill()
        if isinstance(prober.value, request_stream_module.RequestStream):  # it was quicker
            prober.value.discard()
    until(lambda: not any(lane.pool._leases.values()))
    assert all(lease._pool is None for lease in left)


def test_attempts_of_a_probe_are_bounded_however_many_are_in_a_hurry(beds, monkeypatch):
    bed = beds()
    lane = bed.lanes.lanes["cheap"]
    lane.probe.close()
    monkeypatch.setattr(probe_module, "SPACING", 0.001)
    gate, tried, now, most = gevent.event.Event(), [], [], []

    def attempt(fresh):
        tried.append(1)
        now.append(1)
        most.append(len(now))
        try:
            gate.wait()
        finally:
            now.pop()

    lane.probe._lease = attempt
    lane.probe.want(active=True, waited_for=True)
    prober = gevent.spawn(lane.probe._reach)
    while len(tried) < 5 * probe_module.MOST_ATTEMPTS:
        lane.probe._hurry.set()
        gevent.sleep(0.001)
    assert max(most) <= probe_module.MOST_ATTEMPTS + 1  # the one that makes room may end a moment later
    prober.kill()
    until(lambda: not now)


def test_in_an_outage_many_who_ask_share_few_dials(beds, monkeypatch):
    """A dial for each of them is a flood on a server that is just coming back."""
    bed = beds()
    app = bed.application()
    probes = [lane.probe for lane in bed.lanes.lanes.values()]
    until(lambda: all(probe.alive for probe in probes))
    for way in bed.ways.values():
        way.cut()
    for probe in probes:
        probe.check()
    until(lambda: all(probe.alive is False for probe in probes))
    dials = [way.dials for way in bed.ways.values()]
    asking = [gevent.spawn(outcome, bed.lanes.lease) for _ in range(300)]
    gevent.joinall(asking)
    assert all(isinstance(job.value, Unreachable) for job in asking)
    more = [way.dials - before for way, before in zip(bed.ways.values(), dials, strict=True)]
    assert max(more) <= probe_module.MOST_ATTEMPTS
    for way in bed.ways.values():
        way.blocked = False
    asking = [gevent.spawn(bed.lanes.lease) for _ in range(30)]
    gevent.joinall(asking)
    for job in asking:
        job.value[1].discard()
    assert exchange(app)


def test_who_asks_is_told_what_is_true_now(beds):
    """Nobody has asked for long, and still it is known which lane works."""
    bed = beds()
    bed.lanes.ask_all(60.0)
    assert all(lane.probe.alive for lane in bed.lanes.lanes.values())
    assert bed.paths.snapshot()["outage"] is None
    for way in bed.ways.values():
        way.cut()
    bed.lanes.ask_all(60.0)
    until(lambda: bed.paths.snapshot()["outage"])
    snapshot = bed.paths.snapshot()
    assert snapshot["outage"]["reason"] == "the network is cut (cheap, dear)"
    assert [(row["why"], row["carries"]) for row in snapshot["lanes"]] == [("the network is cut", False)] * 2


def test_a_lane_that_never_connected_has_a_reason(beds):
    bed = beds()
    for way in bed.ways.values():
        way.blocked = True
    bed.lanes.ask_all(60.0)
    assert [row["why"] for row in bed.paths.snapshot()["lanes"]] == ["the network is cut"] * 2
    assert bed.paths.snapshot()["outage"]


def test_turns_are_given_one_by_one_and_the_urgent_come_first(monkeypatch):
    monkeypatch.setattr(dial_limiter_module, "AT_ONCE", 1)
    turns, order = DialLimiter(200.0), []

    def take(name, urgent):
        with turns.turn(60.0, urgent=urgent):
            order.append(name)
            gevent.sleep(1.0)

    jobs = [gevent.spawn(take, name, urgent) for name, urgent in [("a", False), ("b", False), ("c", True)]]
    start = time.monotonic()
    until(lambda: len(order) == 3)
    assert order == ["c", "a", "b"]
    assert time.monotonic() - start >= 2 / 200 * 0.9
    assert len(turns) == 0
    gevent.killall(jobs)
    turns.close()


def test_the_kernel_tells_of_changes():
    assert in_own_network(WATCH) == "True\n"
