"""Sessions that go to another process at its question, while this one sends it all of them."""

import pytest

from lane.errors import Status, TargetError
from lane.session.parcel import Elsewhere
from lane.testing.harness import until
from tests.support.beds import making_beds


@pytest.fixture
def bed():
    with making_beds(ways=("cheap",)) as make:
        yield make()


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


@pytest.mark.parametrize("answer", [None, Status.TTL_EXPIRED, Status.GONE])
def test_a_session_that_arrives_while_it_is_asked_for_goes_on(bed, answer):
    app = opened(bed)
    (parcel,) = bed.server.requests.hand_over_all()
    bed.restart_server()
    requests, asked = bed.server.requests, []

    def ask(key, generation):
        if not asked:
            requests.adopt(parcel)
        asked.append(key)
        if answer is not None:
            raise TargetError(answer, "it is not here")

    requests.elsewhere = ask
    app.sock.sendall(b"again")
    assert app.sock.recv(10) == b"again"
    assert len(asked) == 1
