"""Sessions that go to another process: at its question, all at once, or idle, to be frozen there."""

from math import inf
from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event

from lane.errors import Closed, Status, TargetError
from lane.handover import channel, server_parting
from lane.handover.exchange import Desk
from lane.handover.server_parting import ServerParting
from lane.session.parcel import Elsewhere
from lane.testing.harness import until
from tests.support.beds import echo, making_beds
from tests.support.workers import on_linux


@pytest.fixture
def make():
    with making_beds(ways=("cheap",), grace=3600.0) as make:
        yield make


@pytest.fixture
def bed(make):
    return make()


def opened(bed):
    app = bed.application()
    app.sock.sendall(b"here")
    assert app.sock.recv(10) == b"here"
    return app


def test_a_session_that_was_asked_for_meanwhile_goes_once(bed, caplog):
    requests = bed.server.requests
    for _ in range(3):
        opened(bed)
    until(lambda: len(bed.resumption.entries) == 3)
    first, second, third = (entry.key for entry in bed.resumption.entries)
    stopped = []
    for number, parcel in enumerate(requests.hand_over_all()):
        stopped.append(tuple(parcel.state["key"]))
        parcel.close()
        if number == 0:
            requests.hand_over(second, 1).close()
    assert stopped == [first, third]
    assert "could not go" not in caplog.text  # after STOP_TIME, as it has stopped already
    with pytest.raises(Elsewhere):
        requests.hand_over(third, 1)


def test_a_session_that_is_being_stopped_is_elsewhere(bed, monkeypatch):
    opened(bed)
    (entry,) = bed.resumption.entries
    asked, kind = [], type(entry.hosted._service)
    suspend = kind.suspend

    def asking(service):
        with pytest.raises(Elsewhere):
            bed.server.requests.hand_over(entry.key, 1)
        asked.append(entry.generation)
        suspend(service)

    monkeypatch.setattr(kind, "suspend", asking)
    (parcel,) = bed.server.requests.hand_over_all()
    parcel.close()
    assert asked == [0]


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("answer", [None, Status.TTL_EXPIRED, Status.GONE])
def test_a_session_that_arrives_while_it_is_asked_for_goes_on(bed, answer, idle):
    app = opened(bed)
    if idle:
        sessions = taken(bed)
    else:
        (parcel,) = bed.server.requests.hand_over_all()
    bed.restart_server()
    requests, asked = bed.server.requests, []

    def ask(key, generation):
        if not asked and idle:
            requests.keep(sessions)
        elif not asked:
            requests.adopt(parcel)
        asked.append(key)
        if answer is not None:
            raise TargetError(answer, "it is not here")

    requests.elsewhere = ask
    app.sock.sendall(b"again")
    assert app.sock.recv(10) == b"again"
    assert len(asked) == 1


def taken(bed):
    """All sessions of the server, which are idle."""
    requests = bed.server.requests
    until(lambda: len([*requests.idle(inf)]) == len(bed.server_registry))
    return requests.hand_over_idle([*requests.idle(inf)], inf)


def succeed(bed, **limits):
    """Another server has the idle sessions of the one before, and no client can come there."""
    sessions = taken(bed)
    bed.ways["cheap"].cut()
    bed.restart_server(epoch=bed.server.requests._server_epoch, **limits)
    bed.server.requests.keep(sessions)
    return sessions


def test_a_process_that_leaves_takes_no_session_back(bed):
    app = opened(bed)
    sessions, requests, asked = taken(bed), bed.server.requests, []
    requests.elsewhere = lambda *what: asked.append(what)
    requests.leave()
    for again in (requests.arrived, requests.adopt_again):  # its client comes back here meanwhile
        app.sock.sendall(b"again")
        gevent.sleep(10)
        again(sessions)
    assert app.sock.recv(10) == b"againagain"
    assert not asked


def says_again(app):
    app.sock.sendall(b"again")
    return app.sock.recv(10) == b"again"


def test_idle_sessions_count_until_their_clients_come(bed):
    apps = [opened(bed) for _ in range(3)]
    succeed(bed)
    assert (len(bed.resumption.frozen), len(bed.live), bed.resumption.waiting) == (3, 0, 3)
    assert len(bed.server_registry) == 3
    bed.ways["cheap"].blocked = False
    until(lambda: len(bed.live) == 3)
    assert (len(bed.resumption.frozen), len(bed.server_registry)) == (0, 3)
    assert all(map(says_again, apps))
    for app in apps:
        app.sock.close()
    until(lambda: not len(bed.server_registry))


def test_idle_sessions_go_on_when_their_targets_speak_or_end(make):
    now, number = Event(), iter(range(3))

    def serve(sock):
        who = next(number)
        sock.sendall(sock.recv(10))
        now.wait()
        if who == 0:
            sock.sendall(b"news")
        if who != 1:  # it ends
            sock.recv(10)
        sock.close()

    bed = make(serve)
    speaks, ends, _ = [opened(bed) for _ in range(3)]
    succeed(bed)
    now.set()
    until(lambda: len(bed.resumption.frozen) == 1)
    bed.ways["cheap"].blocked = False
    assert speaks.sock.recv(10) == b"news"
    assert ends.sock.recv(10) == b""


def test_idle_sessions_end_with_their_user_and_with_their_time(make):
    gone = []

    def serve(sock):
        try:
            echo(sock)
        except OSError as error:
            gone.append(error)

    bed = make(serve, grace=10.0)
    opened(bed)
    succeed(bed)
    bed.server.kick(["another"])
    assert len(bed.server_registry) == 1
    bed.server.kick(["user"])
    until(lambda: len(gone) == 1 and not len(bed.server_registry))
    bed.ways["cheap"].blocked = False
    opened(bed)
    succeed(bed)
    until(lambda: len(gone) == 2 and not len(bed.server_registry))
    opened_late = bed.resumption.entries
    assert [entry.text for entry in opened_late if "in time" in entry.text]


def test_idle_sessions_beyond_the_room_go_on_at_once_and_frozen_ones_go_further(bed):
    apps = [opened(bed) for _ in range(3)]
    sessions = succeed(bed, most=2)
    until(lambda: len(bed.live) == 1)
    first, second = bed.resumption.frozen
    requests = bed.server.requests
    with pytest.raises(TargetError):
        requests.hand_over(first, 0)
    parcels = [requests.hand_over(first, 1), *requests.hand_over_all()]
    assert {tuple(parcel.state["key"]) for parcel in parcels} == {one.key for one in sessions}
    with pytest.raises(Elsewhere):
        requests.hand_over(second, 1)
    bed.restart_server(epoch=requests._server_epoch)
    for parcel in parcels:
        bed.server.requests.adopt(parcel)
    bed.ways["cheap"].blocked = False
    assert all(map(says_again, apps))


@on_linux
def test_a_process_that_does_not_keep_sessions_leaves_them_where_they_were(bed, monkeypatch):
    monkeypatch.setattr(server_parting, "FEW_IDLE", 0)
    apps = [opened(bed) for _ in range(3)]
    requests, came, name = bed.server.requests, [], channel.name()

    def keep(sessions):
        came.append(len(sessions))
        raise RuntimeError("it dies")

    desk = Desk(channel.listen(name), requests, lambda *_: None, None, keep)
    parting = ServerParting(bed.server, bed.server_registry, [], 60.0)
    gevent.sleep(10)
    until(lambda: len([*requests.idle(inf)]) == 3)
    with pytest.raises(Closed):
        parting.leave(None, SimpleNamespace(is_set=lambda: False, wait=gevent.sleep), name)
    assert came == [2]  # the third one tells the client
    requests.stay()
    assert all(map(says_again, apps))
    desk.close()
