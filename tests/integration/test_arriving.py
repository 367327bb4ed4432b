"""Ports on the server and what carries their sessions: moves, losses, ends and limits on both sides."""

import gevent
import pytest
from gevent import socket

from lane.address import Address
from lane.carriers.path_selection import Decision
from lane.errors import Closed, Status, TargetError
from lane.inbound.reverse import PARKED, ReverseForwarder
from lane.server import services
from lane.server.services import AcceptService
from lane.testing.harness import outcome, pattern, until
from tests.support.beds import Bed, Hook, digest, making_beds, read_to_end

LOOPBACK = Address("127.0.0.1", 0)
DATA = pattern(1 << 20)


@pytest.fixture
def beds():
    with making_beds(ways=("cheap",)) as make:
        yield make


@pytest.fixture(params=["bind", "reverse"])
def opening(request):
    """Opens a port over a bed."""
    return lambda bed: getattr(bed.connector, request.param)(LOOPBACK)


def accepting(listening):
    return gevent.spawn(outcome, listening.accept)


def swap(bed, listening, peer):
    """Bytes both ways between the peer and an application, each to its end."""
    here, there = socket.socketpair()
    bed.jobs.append(gevent.spawn(listening.run, there, b"early "))
    bed.socks += [here, peer]
    upload = gevent.spawn(lambda: (here.sendall(DATA), here.shutdown(socket.SHUT_WR)))
    assert digest(read_to_end(peer)) == digest(b"early " + DATA)
    upload.get()
    peer.sendall(DATA)
    peer.shutdown(socket.SHUT_WR)
    assert digest(read_to_end(here)) == digest(DATA)
    bed.jobs[-1].get()


def test_a_lost_stream_does_not_cost_the_port(beds, opening):
    bed = beds()
    listening = opening(bed)
    job = accepting(listening)
    for _ in range(3):
        bed.ways["cheap"].drop()
        until(lambda: bed.session().carried and bed.lanes.lanes["cheap"].probe.alive)
    peer = socket.create_connection(listening.bound)
    assert job.get() == Address(*peer.getsockname())
    swap(bed, listening, peer)


def test_who_asks_again_learns_where_the_port_is(beds, opening, monkeypatch):
    """The first REPLY is lost: a reverse forward would move to another port, and BIND have none."""
    bed, gate, ports = beds(), gevent.event.Event(), []

    def arrive(port):
        gate.wait()
        ports.append(port.bound)
        return AcceptService(port)

    monkeypatch.setattr(services, "AcceptService", arrive)
    bed.lanes.lease()[1].discard()  # so that there is a carrier that is not fresh
    job = gevent.spawn(opening, bed)
    until(lambda: bed.resumption._entries)
    (entry,) = bed.resumption._entries.values()
    bed.ways["cheap"].drop()
    until(lambda: entry.generation)  # it has asked again
    gate.set()
    listening = job.get()
    assert [listening.bound] == ports
    assert listening.bound.port
    listening.abort()


def test_a_move_does_not_cost_the_port(beds, opening):
    wanted = ["cheap"]
    bed = beds(ways=("cheap", "dear"), policy=lambda now, lanes, state: Decision(wanted[0], "a test", state))
    listening = opening(bed)
    job = accepting(listening)
    (driver,) = bed.paths._drivers.values()
    for name in ("dear", "cheap", "dear"):
        wanted[0] = name
        until(lambda name=name: bed.lanes.choice.name == name)
        driver.move(bed.lanes.choice)
        until(lambda name=name: driver.lane.name == name and bed.session().carried)
    peer = socket.create_connection(listening.bound)
    assert job.get() == Address(*peer.getsockname())
    swap(bed, listening, peer)


def test_who_comes_while_nothing_carries_is_served_afterwards(beds, opening):
    bed = beds()
    listening = opening(bed)
    job = accepting(listening)
    bed.ways["cheap"].cut()
    until(lambda: not bed.session().carried)
    peer = socket.create_connection(listening.bound)
    gevent.sleep(0.05)
    assert not job.ready()
    bed.ways["cheap"].blocked = False
    assert job.get() == Address(*peer.getsockname())
    swap(bed, listening, peer)


def test_a_session_that_nothing_carries_gets_no_connection(beds):
    bed = beds()
    gone = bed.connector.reverse(LOOPBACK)
    (driver,) = bed.paths._drivers.values()
    driver._recover = lambda opening: None
    there = bed.connector.reverse(gone.bound)
    job = accepting(there)
    bed.ways["cheap"].drop()
    until(lambda: [session.carried for session in bed.server_registry.sessions].count(True) == 1)
    peer = socket.create_connection(gone.bound)
    assert job.get() == Address(*peer.getsockname())
    swap(bed, there, peer)


def test_a_client_that_lets_go_gives_the_port_back(beds, opening):
    bed = beds(grace=1000.0)
    bed.doors._linger = 0.0
    listening = opening(bed)
    job = accepting(listening)
    until(lambda: bed.session().carried)
    listening.abort()
    assert isinstance(job.get(), Closed)
    until(lambda: len(bed.doors) == 0 and not bed.server_registry.sessions)


def test_a_client_that_lets_go_at_once_does_so_too(beds, opening):
    bed = beds(grace=1000.0)
    bed.doors._linger = 0.0
    opening(bed).abort()
    until(lambda: len(bed.doors) == 0 and not bed.server_registry.sessions)


def test_a_wait_that_ends_is_told_as_what_it_is(beds):
    bed = beds()
    bed.doors._wait = 0.02
    listening = bed.connector.bind(LOOPBACK)
    with pytest.raises(TargetError) as caught:
        listening.accept()
    assert caught.value.status is Status.TTL_EXPIRED
    listening.abort()


def test_what_the_server_refuses(beds):
    bed = beds()
    bed.doors.rules = ()
    for call, address in ((bed.connector.bind, Address("224.0.0.1", 1)), (bed.connector.reverse, LOOPBACK)):
        with pytest.raises(TargetError) as caught:
            call(address)
        assert caught.value.status is Status.NOT_ALLOWED
    assert len(bed.doors) == 0
    assert len(bed.registry) == 0


def test_the_hook_is_asked_for_both(beds, monkeypatch):
    bed = beds()
    asked = []
    monkeypatch.setattr(Hook, "lane_authorize", lambda self, request, identity: asked.append(request))
    for call in (bed.connector.bind, bed.connector.reverse):
        with pytest.raises(TargetError, match="not allowed"):
            call(LOOPBACK)
    assert asked == [LOOPBACK, LOOPBACK]
    assert len(bed.doors) == 0


def test_a_waiting_session_is_not_idle(beds, opening):
    bed = beds()
    for registry in (bed.registry, bed.server_registry):
        registry._idle_timeout = 0.1
    listening = opening(bed)
    job = accepting(listening)
    app = bed.application()
    app.job.get()
    assert app.session.error is not None, "the idle one was not ended"
    peer = socket.create_connection(listening.bound)
    for registry in (bed.registry, bed.server_registry):
        registry._idle_timeout = 100.0
    assert job.get() == Address(*peer.getsockname())
    swap(bed, listening, peer)


@pytest.mark.parametrize("side", ["registry", "server_registry"])
def test_nobody_waits_for_waiting_sessions_at_the_end(beds, opening, side):
    bed = beds()
    listening = opening(bed)

    def serve():
        with pytest.raises(Closed):
            listening.accept()
        listening.abort()

    job = gevent.spawn(serve)
    until(lambda: bed.session().waiting_for_peer)
    getattr(bed, side).drain(1000.0)  # the test would hang
    job.get()


def test_a_waiting_session_is_known_as_one_before_it_runs(beds, opening, monkeypatch):
    """A server may end between the REPLY and the turn of the session's own greenlet."""
    bed, known, run = beds(), [], AcceptService.run
    monkeypatch.setattr(
        AcceptService,
        "run",
        lambda self, session: known.append(session.waiting_for_peer) or run(self, session),
    )
    listening = opening(bed)
    until(lambda: known)
    assert known == [True]
    listening.abort()


def test_no_session_waits_at_a_server_that_began_to_end_meanwhile(beds, opening, monkeypatch):
    bed = beds()

    def arrive(port):
        monkeypatch.setattr(bed.server.requests._hosting, "closing", True)
        return AcceptService(port)

    monkeypatch.setattr(services, "AcceptService", arrive)
    with pytest.raises(TargetError, match="the server is closing"):
        opening(bed)
    until(lambda: not len(bed.server_registry))


class Reversed:
    """A bed with a reverse forward to the bed's target."""

    def __init__(self, bed: Bed, **options):
        self.bed = bed
        target = Address(*bed.target.address[:2])
        self.reverse = ReverseForwarder(
            bed.connector,
            LOOPBACK,
            target,
            socket.create_connection,
            shown="server",
            **options,
        )
        self.reverse.start()

    def __enter__(self):
        return self.reverse

    def __exit__(self, *_):
        self.reverse.close()

    def parked(self):
        """How many sessions are parked, as the server knows."""
        shared = self.bed.doors._shared.get(self.reverse.where)
        return len(shared._places) if shared else 0


def test_a_restarted_server_gets_new_sessions_for_the_same_port(beds, caplog):
    caplog.set_level("INFO", "lane.client")
    bed = beds()
    reversed_ = Reversed(bed)
    with reversed_ as reverse:
        until(lambda: reversed_.parked() == PARKED)
        before = reverse.where
        for _ in range(2):
            bed.doors.close()
            bed.restart_server()
            until(lambda: reversed_.parked() == PARKED)
        assert reverse.where == before
        with socket.create_connection(before) as sock:
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"
        assert len(bed.doors) == 1
    lines = [record.getMessage() for record in caplog.records if "reverse" in record.getMessage()]
    assert lines[0] == f"reverse: {before} of server -> {Address(*bed.target.address[:2])}"


def test_a_connection_is_replaced_at_once(beds):
    bed = beds()
    reversed_ = Reversed(bed)
    with reversed_ as reverse:
        until(lambda: reversed_.parked() == PARKED)
        socks = [socket.create_connection(reverse.where) for _ in range(3 * PARKED)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%d" % number)
            assert sock.recv(10) == b"%d" % number
        until(lambda: reversed_.parked() == PARKED)
        reverse.close()
        until(lambda: reversed_.parked() == 0)
        for sock in socks:  # what is connected goes on
            sock.sendall(b"more")
            assert sock.recv(10) == b"more"
            sock.close()
