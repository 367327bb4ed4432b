"""A session that one side aborts ends at the other one, too, whatever happens to its stream in that moment.

Whoever is told nothing keeps a session for as long as its client may come back: 1000 s here.
"""

from contextlib import suppress

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from lane.address import Address
from lane.carriers.connector import FastOpen
from lane.carriers.session_driver import SessionDeadlines
from lane.errors import Reset, TargetError
from lane.session import aborting
from lane.testing.harness import until
from tests.support.beds import making_beds

TARGET = Address("target.test", 80)


@pytest.fixture
def beds():
    with making_beds(ways=("cheap",), grace=1000.0) as make:
        yield make


@pytest.fixture
def hasty(monkeypatch):
    """Nobody waits until an abort was heard."""
    monkeypatch.setattr(aborting, "IN_ORDER", 0.01)
    monkeypatch.setattr(aborting, "WITHIN", 0.01)


def abort(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def talking(bed):
    """An application whose session is carried at both ends."""
    app = bed.application()
    app.sock.sendall(b"?")
    assert app.sock.recv(1) == b"?"
    return app


def is_gone(bed):
    """Wait until nothing is left at the server."""
    until(lambda: not bed.server_registry.sessions and not bed.resumption.waiting)


def test_an_abort_while_nothing_carries_the_session(beds):
    bed = beds()
    app = talking(bed)
    bed.ways["cheap"].cut()
    until(lambda: bed.resumption.waiting)
    abort(app.sock)
    app.job.join()
    bed.ways["cheap"].blocked = False
    is_gone(bed)
    until(lambda: not bed.lanes.farewells)


def test_an_abort_whose_carrier_is_lost_before_it_is_heard(beds):
    bed = beds()
    app = talking(bed)
    bed.ways["cheap"].held = True
    abort(app.sock)
    app.job.join()
    bed.ways["cheap"].drop()
    is_gone(bed)


def test_an_abort_goes_over_the_lane_that_works(beds, hasty):
    bed = beds(ways=("cheap", "dear"))
    app = talking(bed)
    until(lambda: all(lane.probe.alive for lane in bed.lanes.lanes.values()))
    bed.ways["cheap"].cut()
    abort(app.sock)
    is_gone(bed)


def test_a_hundred_aborts_while_nothing_carries(beds):
    bed = beds()
    apps = [talking(bed) for _ in range(100)]
    bed.ways["cheap"].cut()
    until(lambda: bed.resumption.waiting == 100)
    for app in apps:
        abort(app.sock)
        app.job.join()
    bed.ways["cheap"].blocked = False
    is_gone(bed)


def test_the_code_of_a_reset_overtakes_what_waits(beds, hasty):
    """Nothing that was sent arrives, but the carrier lives: nobody comes back, and nothing else is said."""
    bed = beds()
    app = talking(bed)
    bed.lanes.farewells.close()
    bed.ways["cheap"].held = True
    abort(app.sock)
    is_gone(bed)


def test_an_abort_of_the_target_overtakes_what_waits(beds, hasty):
    gate = Event()
    bed = beds(lambda sock: (sock.sendall(sock.recv(1)), gate.wait(), abort(sock)))
    app = talking(bed)
    bed.ways["cheap"].held = True
    gate.set()
    with pytest.raises(ConnectionResetError):
        app.sock.recv(1)


def test_a_stream_that_is_only_reset_ends_no_session(beds):
    bed = beds()
    app = talking(bed)
    (driver,) = bed.paths._drivers.values()
    driver._stream.lease.stream.reset()
    app.sock.sendall(b"still there?")
    assert app.sock.recv(20) == b"still there?"
    bed.session().detach()
    app.sock.sendall(b"and now?")
    assert app.sock.recv(20) == b"and now?"


class Slow:
    """A way to the target that is open once `gate` is; `made` are the connections."""

    def __init__(self, bed):
        self.gate, self.asked, self.made = Event(), Event(), []
        self.real, bed.dial = bed.dial, self.dial

    def dial(self, address):
        self.asked.set()
        self.gate.wait()
        self.made.append(self.real(address))
        return self.made[-1]

    def was_closed(self):
        until(lambda: self.made and self.made[0].closed)


def test_an_abort_while_the_target_is_being_reached(beds, hasty):
    """It was told that it is connected, and leaves before the server has answered."""
    bed = beds(fast_open=FastOpen.ON)
    bed.lanes.farewells.close()
    slow = Slow(bed)
    app = bed.application()
    app.sock.sendall(b"early")
    slow.asked.wait()
    abort(app.sock)
    app.job.join()
    until(app.session.aborting.ready)
    slow.gate.set()
    slow.was_closed()
    is_gone(bed)


@pytest.mark.parametrize("how", ["late", "killed"])
@pytest.mark.parametrize("patient", [True, False])
def test_who_waits_no_longer_until_the_target_is_reached(beds, how, patient, monkeypatch):
    bed = beds()
    bed.lanes.farewells.close()
    if not patient:
        monkeypatch.setattr(aborting, "WITHIN", 0.01)
    slow = Slow(bed)
    if how == "late":
        bed.connector._deadlines = SessionDeadlines(0.05, 1000.0)
        with pytest.raises(TargetError):
            bed.connect(TARGET)
        slow.asked.wait()
    else:
        job = gevent.spawn(bed.connect, TARGET)
        slow.asked.wait()
        job.kill()
    slow.gate.set()
    slow.was_closed()
    is_gone(bed)


def test_an_association_that_is_closed_while_nothing_carries_it(beds):
    bed = beds()
    association = bed.connector.associate(lambda source, payload: None)
    association.send(Address("192.0.2.1", 53), b"x")
    until(lambda: bed.worlds and bed.worlds[0].got)
    bed.ways["cheap"].cut()
    until(lambda: bed.resumption.waiting)
    association.close()
    until(lambda: association._session.over)
    bed.ways["cheap"].blocked = False
    is_gone(bed)


def test_a_port_that_is_wanted_no_more_while_nothing_carries_it(beds):
    bed = beds()
    listening = bed.connector.bind(Address("127.0.0.1", 0))
    bed.ways["cheap"].cut()
    until(lambda: bed.resumption.waiting)
    listening.abort()
    bed.ways["cheap"].blocked = False
    is_gone(bed)


def test_why_a_port_was_given_up_is_told_past_what_waits(beds, hasty):
    bed = beds()
    listening = bed.connector.bind(Address("127.0.0.1", 0))
    bed.ways["cheap"].held = True
    bed.session().reset(6)
    with pytest.raises(TargetError, match="nobody connected in time"), suppress(Reset):
        listening.accept()


def test_a_server_that_knows_of_no_session_is_asked_once(beds):
    bed = beds()
    app = talking(bed)
    bed.ways["cheap"].cut()
    abort(app.sock)
    app.job.join()
    bed.ways["cheap"].blocked = False
    bed.restart_server()
    until(lambda: not bed.lanes.farewells)


def test_a_client_that_ends_waits_until_its_aborts_were_heard(beds):
    """Even for those of sessions that have left before."""
    bed = beds()
    apps = [talking(bed) for _ in range(3)]
    bed.ways["cheap"].held = True
    abort(apps[0].sock)
    apps[0].job.join()
    draining = gevent.spawn(bed.registry.drain, 0)
    until(lambda: not bed.registry.sessions)
    assert not draining.ready()
    bed.ways["cheap"].release()
    draining.get()
    assert all(app.session.aborting.ready() and not app.session.abort_unheard for app in apps)
