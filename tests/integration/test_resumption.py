"""A session outlives its stream: nothing is lost, nothing comes twice, and every end is the true one."""

from contextlib import contextmanager, suppress

import gevent
import pytest
from gevent import socket

from lane.address import Address
from lane.carriers.connector import FastOpen
from lane.carriers.path_selection import Decision
from lane.errors import Status, TargetError, Unreachable
from lane.server import resumption as resumption_module
from lane.testing.harness import pattern, until
from tests.support.beds import MB, digest, making_beds, read_to_end

DATA = pattern(8 * MB)


@pytest.fixture
def beds():
    with making_beds(ways=("cheap",)) as make:
        yield make


def read_to_end_losing(sock, way, every):
    """Read to the end; whenever so many bytes have come, everything under way is lost."""
    data, lost = bytearray(), 0
    while more := sock.recv(65536):
        data += more
        if len(data) - lost >= every:
            lost = len(data)
            way.drop()
    return bytes(data)


@pytest.mark.parametrize("every", [MB // 8, 3 * MB])
def test_bytes_are_exact_and_both_half_closes_arrive_whatever_is_lost(beds, every):
    def swap(sock):
        data = read_to_end_losing(sock, way, every)
        sock.sendall(data + DATA)
        sock.close()

    bed = beds(swap)
    way = bed.ways["cheap"]
    app = bed.application()
    upload = gevent.spawn(lambda: (app.sock.sendall(DATA), app.sock.shutdown(socket.SHUT_WR)))
    data = read_to_end_losing(app.sock, way, every)
    upload.get()
    assert digest(data) == digest(DATA + DATA)
    app.job.get()
    assert app.session.error is None
    assert way.dials > 1


def test_an_idle_session_goes_on_from_either_side(beds):
    bed = beds()
    app = bed.application()
    app.sock.sendall(b"before")
    assert app.sock.recv(10) == b"before"
    bed.ways["cheap"].drop()
    until(lambda: bed.session().carried and bed.lanes.lanes["cheap"].probe.alive)
    bed.session().sendall(b"unasked")
    assert app.sock.recv(10) == b"unasked"
    app.sock.sendall(b"after")
    assert app.sock.recv(10) == b"after"


def test_a_session_that_is_dropped_at_once_does_not_wait_for_its_client(beds):
    bed = beds(grace=1000.0)
    bed.connect(Address("target.test", 80)).abort()
    until(lambda: not bed.server_registry.sessions)


@pytest.mark.parametrize("carried", [True, False], ids=["lost", "lost while nothing carries"])
def test_an_end_that_is_lost_with_its_carrier_is_said_again(beds, carried):
    bed = beds(grace=1000.0)
    way, app = bed.ways["cheap"], bed.application()
    close = app.session.protocol.close

    def lose():
        way.held = True
        close()

    app.session.protocol.close = lose
    app.sock.sendall(b"x")
    app.sock.shutdown(socket.SHUT_WR)
    assert read_to_end(app.sock) == b"x"
    until(lambda: way.held and any(flight.queue for flight in way.flights))
    way.drop() if carried else way.cut()
    until(lambda: bed.resumption.waiting or not bed.server_registry.sessions)
    way.blocked = False
    until(lambda: not bed.server_registry.sessions)
    until(lambda: not bed.lanes.farewells)
    assert app.session.error is None
    assert bed.live.numbers.ended["clean",] == 1


def test_a_planned_move_is_made_before_the_break(beds):
    wanted = ["cheap"]
    bed = beds(
        ways=("cheap", "dear"),
        policy=lambda now, lanes, state: Decision(wanted[0], "a test", state),
    )
    app = bed.application()
    (driver,) = bed.paths._drivers.values()
    gaps = []
    app.session.when_over(lambda: gaps.append("ended"))
    lost, driver._recover = driver._recover, lambda opening: gaps.append("lost") or lost(opening)
    for number in range(6):
        upload = gevent.spawn(app.sock.sendall, DATA)
        got = bytearray(app.sock.recv(65536))
        wanted[0] = ("dear", "cheap")[number % 2]
        until(lambda: driver.lane.name == wanted[0])
        while len(got) < len(DATA):
            got += app.sock.recv(65536)
        upload.get()
        assert bytes(got) == DATA
    assert not gaps
    assert [change["to"] for change in bed.paths.snapshot()["changes"]] == ["dear", "cheap"] * 3


def test_a_session_that_was_moved_meanwhile_is_not_given_up_by_who_waits_for_a_turn(beds, monkeypatch):
    bed = beds(grace=0.5)
    app = bed.application()
    (driver,) = bed.paths._drivers.values()
    turn, over = bed.lanes.turn, gevent.event.Event()

    @contextmanager
    def starved(lane, wanted, within, **how):
        monkeypatch.setattr(bed.lanes, "turn", turn)
        gevent.sleep(within)
        over.set()
        raise Unreachable("no turn to dial in time")
        yield

    monkeypatch.setattr(bed.lanes, "turn", starved)
    app.sock.sendall(b"x")
    assert app.sock.recv(1) == b"x"
    bed.ways["cheap"].drop()
    until(lambda: bed.lanes.turn is turn)
    driver.move(driver.lane)
    over.wait()
    app.sock.sendall(b"y")
    assert app.sock.recv(1) == b"y"


def test_where_one_lane_is_cut_the_other_carries_on(beds):
    bed = beds(ways=("cheap", "dear"))
    app = bed.application()
    app.sock.sendall(b"x")
    assert app.sock.recv(1) == b"x"
    until(lambda: all(lane.probe.alive for lane in bed.lanes.lanes.values()))
    bed.ways["cheap"].cut()
    app.sock.sendall(b"still there?")
    assert app.sock.recv(20) == b"still there?"
    (driver,) = bed.paths._drivers.values()
    assert driver.lane.name == "dear"


def test_a_reset_stays_a_reset_after_a_move(beds):
    bed = beds(lambda sock: (sock.recv(1), sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0"), sock.close()))
    app = bed.application()
    bed.ways["cheap"].drop()
    until(lambda: bed.session().carried)
    app.sock.sendall(b"!")
    with pytest.raises(ConnectionResetError):
        app.sock.recv(1)


def test_a_target_that_resets_while_nothing_carries_is_a_reset(beds):
    gate = gevent.event.Event()
    bed = beds(lambda sock: (gate.wait(), sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0"), sock.close()))
    app = bed.application()
    bed.ways["cheap"].cut()
    until(lambda: bed.resumption.waiting)
    gate.set()
    until(lambda: not bed.resumption.waiting)
    bed.ways["cheap"].blocked = False
    with pytest.raises(ConnectionResetError):
        app.sock.recv(1)


def test_who_does_not_come_back_in_time_is_given_up_at_both_ends(beds):
    bed = beds(grace=0.5)
    app = bed.application()
    app.sock.sendall(b"x")
    assert app.sock.recv(1) == b"x"
    bed.ways["cheap"].cut()
    until(lambda: bed.resumption.waiting)
    with pytest.raises(ConnectionResetError):
        app.sock.recv(1)
    until(lambda: not len(bed.server_registry))
    until(lambda: not len(bed.resumption))  # the tombstone, too


def test_a_restarted_server_ends_what_was_and_serves_what_comes(beds):
    bed = beds()
    apps = [bed.application() for _ in range(3)]
    apps[0].sock.sendall(b"x")
    assert apps[0].sock.recv(1) == b"x"
    bed.restart_server()
    for app in apps:
        with pytest.raises(ConnectionResetError):
            app.sock.recv(1)
    app = bed.application()
    app.sock.sendall(b"new")
    assert app.sock.recv(3) == b"new"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_client_works_again_within_three_seconds_after_an_outage(beds, restarts):
    bed = beds(ways=("cheap", "dear"))
    bed.application()
    for way in bed.ways.values():
        way.cut()
    patience, beds.clock.patience = beds.clock.patience, 0.0  # nothing is on its way
    gevent.sleep(90)
    beds.clock.patience = patience
    if restarts:
        bed.restart_server()
    for way in bed.ways.values():
        way.blocked = False
    back = beds.clock.now
    while True:
        with suppress(TargetError):
            app = bed.application()
            app.sock.sendall(b"there?")
            assert app.sock.recv(10) == b"there?"
            break
        gevent.sleep(0.1)
    assert beds.clock.now - back < 3


def test_sessions_that_wait_are_bounded_in_number_and_the_oldest_goes(beds, monkeypatch):
    bed = beds()
    bed.resumption._most = 2
    apps = [bed.application() for _ in range(4)]
    bed.ways["cheap"].cut()
    until(lambda: bed.resumption.waiting == 1)  # one user has half of them
    bed.ways["cheap"].blocked = False
    until(lambda: sum(app.job.dead for app in apps) == 3)
    (left,) = [app for app in apps if not app.job.dead]
    left.sock.sendall(b"x")
    assert left.sock.recv(1) == b"x"


def test_sessions_that_wait_are_bounded_in_bytes(beds):
    def flood(sock):
        sock.sendall(DATA)

    bed = beds(flood)
    bed.resumption._most_bytes = MB
    apps = [bed.application() for _ in range(8)]
    until(lambda: all(app.session.receive_window.received for app in apps))
    bed.ways["cheap"].cut()
    until(lambda: bed.resumption.waiting)
    until(lambda: sum(s.retained for s in bed.server_registry.sessions if not s.over) <= MB / 2)


def test_ended_sessions_are_forgotten(beds, monkeypatch):
    monkeypatch.setattr(resumption_module, "MOST_ENDED", 3)
    bed = beds()
    for _ in range(6):
        app = bed.application()
        bed.ways["cheap"].drop()  # a second request, so that it must be remembered
        app.sock.sendall(b"x")
        assert app.sock.recv(1) == b"x"
        app.sock.shutdown(socket.SHUT_WR)
        assert app.sock.recv(1) == b""
        app.job.join()
    until(lambda: len(bed.resumption) == 3)


def test_a_late_request_of_an_older_generation_is_refused(beds):
    bed = beds()
    app = bed.application()
    app.sock.sendall(b"x")
    assert app.sock.recv(1) == b"x"
    (key,) = bed.resumption._entries
    entry = bed.resumption.find(key, 5)
    for generation in (0, 4, 5):
        with pytest.raises(TargetError) as caught:
            bed.resumption.find(key, generation)
        assert caught.value.status is Status.STALE
    assert entry.join(5).session is bed.session()
    app.sock.sendall(b"y")  # and harms nobody
    assert app.sock.recv(1) == b"y"


def test_who_asks_again_learns_where_the_target_sees_him_from(beds):
    """The first REPLY is lost: the next one has its address."""
    bed, gate, seen = beds(), gevent.event.Event(), []
    connect = bed.dial

    def slow(address):
        gate.wait()
        sock = connect(address)
        seen.append(Address(*sock.getsockname()[:2]))
        return sock

    bed.dial = slow
    bed.lanes.lease()[1].discard()  # so that there is a carrier that is not fresh
    job = gevent.spawn(bed.connect, Address("target.test", 80))
    until(lambda: bed.resumption._entries)
    (entry,) = bed.resumption._entries.values()
    bed.ways["cheap"].drop()
    until(lambda: entry.generation)  # it has asked again
    gate.set()
    connection = job.get()
    assert [connection.bound] == seen
    connection.abort()


@pytest.mark.parametrize("fast", [FastOpen.OFF, FastOpen.ON])
def test_a_carrier_lost_while_the_target_is_reached(beds, fast):
    gate, reached = gevent.event.Event(), []

    bed = beds(fast_open=fast)
    connect = bed.dial

    def slow(address):
        reached.append(address)
        gate.wait()
        return connect(address)

    bed.dial = slow
    bed.lanes.lease()[1].discard()  # so that there is a carrier that is not fresh
    job = gevent.spawn(bed.application)
    until(lambda: reached)
    (entry,) = bed.resumption._entries.values()
    if fast is FastOpen.ON:
        app = job.get()
        app.sock.sendall(b"early")
        until(lambda: app.session.send_buffer.sent)
    bed.ways["cheap"].drop()
    until(lambda: entry.generation)  # it has asked again
    gate.set()
    app = job.get()
    app.sock.sendall(b"hello")
    app.sock.shutdown(socket.SHUT_WR)
    assert read_to_end(app.sock) == (b"early" if fast is FastOpen.ON else b"") + b"hello"
    assert reached == [Address("target.test", 80)]
