"""Half a day of a client and a server in seconds: what counts, doubles or is remembered stays in its bounds.

Half a day of applications that come and go, talk in one direction only, and stay idle, over a network that is
cut for seconds and minutes, with a server that is restarted. See tests/support/virtual_time.py.
"""

import gc
import random
from contextlib import suppress

import gevent
import pytest

from lane.carriers import path_control as path_control_module
from lane.carriers import path_meter as path_meter_module
from lane.carriers import probe as probe_module
from lane.carriers.spares import KEPT
from lane.errors import LaneError
from lane.net.descriptors import reserve
from lane.session.liveness import MOST_PATIENCE
from lane.session.receive_window import ACKS_REMEMBERED
from tests.support.beds import Bed
from tests.support.virtual_time import virtual_time

HOUR = 3600.0
GRACE = 60.0


def target(sock):
    """Says back what it gets. Whoever begins with `push` gets data all the time, with `take` nothing."""
    first = sock.recv(4)
    if first == b"push":
        with suppress(OSError):
            while True:
                sock.sendall(b"x" * 1000)
                gevent.sleep(0.5)
    elif first != b"take":
        sock.sendall(first)
    while data := sock.recv(65536):
        if first != b"take":
            sock.sendall(data)


class World:
    """A bed, and those who use it."""

    def __init__(self, clock, seed):
        self.clock, self.random = clock, random.Random(seed)
        self.bed = Bed(("cheap", "dear"), target, grace=GRACE)
        self.seen = {}
        self.talks = self.refused = self.long = 0

    def check(self):
        """All that is remembered is within its bounds, which are those of an hour and not of half a day."""
        bed = self.bed
        for registry in (bed.registry, bed.server_registry):
            for session in registry.sessions:
                live = session.protocol.liveness
                assert 1 <= live._patience <= MOST_PATIENCE
                assert len(session.receive_window._sent_acks) <= ACKS_REMEMBERED
                live.silent(self.clock.now + 10**9)  # no overflow, however long it lasts
        for lane in bed.lanes.lanes.values():
            assert len(lane.probe._times) <= probe_module.REMEMBERED
            assert len(lane.meter._samples) <= path_meter_module.MOST_SAMPLES
            assert len(lane.meter._before) <= len(bed.paths)
            assert len(lane.pool._spares) <= KEPT
            assert len(lane.pool._dials) <= 10
        assert len(bed.paths._changes) <= path_control_module.REMEMBERED
        assert len(bed.lanes._dial_limiter) <= len(bed.paths)
        assert len(bed.paths._drivers) == len(bed.registry.sessions)
        assert len(bed.resumption._entries) <= 200
        assert len(bed.resumption._ended) <= 200
        assert bed.registry.budget.used >= 0
        assert not bed.registry._ticker.dead
        assert not bed.server_registry._ticker.dead
        assert not bed.paths._looker.dead

    def talk(self, seconds, first=b"talk", pause=60.0):
        """An application that comes, talks for a while, and goes."""
        try:
            app = self.bed.application()
        except LaneError:
            self.refused += 1
            return
        with app.sock, suppress(OSError):
            app.sock.sendall(first)
            until = self.clock.now + seconds
            while self.clock.now < until:
                if first == b"push":
                    if not app.sock.recv(65536):
                        return
                else:
                    app.sock.sendall(b"y" * 1000)
                    if first == b"talk" and not app.sock.recv(65536):
                        return
                    gevent.sleep(pause)
            if first == b"talk":
                self.talks += 1
            else:
                self.long += 1
        app.job.join()
        self.bed.jobs.remove(app.job)
        self.bed.socks.remove(app.sock)

    def disturb(self):
        """The network is cut, in one lane or in both, for seconds or minutes; seldom the server restarts."""
        while True:
            gevent.sleep(self.random.uniform(0.2, 1.5) * HOUR)
            ways = self.random.sample(list(self.bed.ways.values()), self.random.choice((1, 2)))
            for way in ways:
                way.cut()
            gevent.sleep(self.random.choice((0.5, 5, 30, 300, 1200)))
            for way in ways:
                way.blocked = False
            if self.random.random() < 0.15:
                self.bed.restart_server()


@pytest.mark.bulk
@pytest.mark.long
def test_half_a_day(monkeypatch):
    # There are enough descriptors; to count them each second takes 11 million system calls.
    monkeypatch.setattr(reserve, "has", lambda count: True)
    with virtual_time(patience=0) as clock:
        world = World(clock, seed=1)
        began = clock.now
        jobs = [gevent.spawn(world.disturb)]
        objects = []
        for hour in range(12):
            if hour == 2:
                jobs.append(gevent.spawn(world.talk, 300, b"take", 0.5))
            if hour == 3:
                jobs.append(gevent.spawn(world.talk, 300, b"push"))
            if hour == 6:
                jobs.append(gevent.spawn(world.talk, 5 * HOUR, b"talk", 3000.0))
            for _ in range(6):
                jobs.append(gevent.spawn(world.talk, world.random.choice((1, 60, 300))))
                gevent.sleep(HOUR / 6)
                world.check()
            jobs = [job for job in jobs if not job.dead]
            if hour % 6 == 5:  # all is quiet
                gc.collect()
                objects.append(len(gc.get_objects()))
        assert clock.now - began == pytest.approx(12 * HOUR, abs=600)
        gevent.killall(jobs)
        assert world.talks > 35
        assert world.long >= 2
        world.bed.close()
    assert max(objects[1:]) < 1.05 * objects[0] + 2500


def test_a_connection_that_only_sends_for_a_day():
    """The patience of its liveness doubles with each PING and PONG: 1,024 times are too many for a float."""
    with virtual_time(patience=0) as clock:
        world = World(clock, seed=0)
        app = world.bed.application()
        app.sock.sendall(b"take")
        for _ in range(3000):
            app.session.ping()
            gevent.sleep(0.05)
        assert app.session.protocol.liveness._patience == MOST_PATIENCE
        assert all(s.protocol.liveness._patience == MOST_PATIENCE for s in world.bed.server_registry.sessions)
        world.check()
        app.sock.close()
        app.job.join()
        world.bed.close()


def test_idle_sessions_are_reset_beside_one_that_only_sends():
    with virtual_time(patience=0) as clock:
        world = World(clock, seed=0)
        busy, idle = world.bed.application(), world.bed.application()
        world.bed.registry._idle_timeout = world.bed.server_registry._idle_timeout = 120.0
        busy.sock.sendall(b"take")
        until = clock.now + 400
        while clock.now < until:
            busy.sock.sendall(b"x")
            gevent.sleep(0.2)
        assert idle.session.error
        assert not busy.session.error
        world.bed.close()
