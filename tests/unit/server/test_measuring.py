"""The server as a target: what it answers, and its bounds."""

import json

import gevent
import pytest

from lane.carriers import measuring as client
from lane.errors import LaneError, TargetError
from lane.server import measuring
from lane.testing.harness import until
from lane.users.traffic import Limits
from tests.support.beds import making_beds


@pytest.fixture
def bed():
    with making_beds(ways=("cheap",)) as make:
        yield make()


def asked(bed, question):
    """A session that has said `question`, and its stream."""
    measurement = bed.connector.measure()
    stream = measurement.begin()
    stream.sendall(question)
    return measurement, stream


def test_it_tells_about_itself(bed):
    answer, asked, answered = client.about(bed.connector)
    assert answer.keys() >= {"version", "time"}
    assert asked <= answered


def test_what_comes_with_the_question_is_echoed_too(bed):
    measurement, stream = asked(bed, b'{"do": "echo"}\nabc')
    stream.sendall(b"def")
    stream.finish()
    data = b""
    while more := stream.recv():
        data += more
    assert data == b"abcdef"
    measurement.abort()


def test_it_says_how_much_it_took(bed):
    measurement, stream = asked(bed, b'{"do": "up", "seconds": 1}\nabc')
    stream.sendall(bytes(100_000))
    stream.finish()
    assert json.loads(stream.recv()) == {"bytes": 100_003}
    measurement.abort()


def test_the_rate_of_a_user_holds(bed):
    bed.server.traffic.limits = lambda user: Limits(up=200_000.0, down=200_000.0)
    measurement, stream = asked(bed, b'{"do": "down", "seconds": 0.5}\n')
    size = 0
    while data := stream.recv():
        size += len(data)
    (user,) = bed.server.traffic
    assert user.gates.down.spent == size
    assert size < 200_000 * (0.5 + 0.5)  # a late process makes good up to 0.25 s
    measurement.abort()
    measurement, stream = asked(bed, b'{"do": "up"}\n')
    stream.sendall(bytes(30_000))
    stream.finish()
    assert json.loads(stream.recv()) == {"bytes": 30_000}
    assert user.gates.up.spent >= 30_000
    measurement.abort()


@pytest.mark.parametrize(
    "question",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"do": "frob"}\n',
        b'{"do": "down", "seconds": 31}\n',
        b'{"do": "down", "seconds": -1}\n',
        b'{"do": "down", "seconds": "1"}\n',
        b'{"do": "down", "seconds": true}\n',
        b'{"do": "down", "seconds": NaN}\n',
        b'{"do": "down", "seconds": Infinity}\n',
        b"[" * 200 + b"\n",
        b"x" * (measuring.MAX_QUESTION + 1),
    ],
)
def test_a_wrong_question_costs_only_its_session(bed, question):
    measurement, stream = asked(bed, question)
    with pytest.raises(LaneError):
        while stream.recv():
            pass
    measurement.abort()
    assert client.about(bed.connector)[0]["version"]


def test_a_user_has_a_most_at_once_which_are_given_back(bed):
    held = [asked(bed, b'{"do": "echo"}\n')[0] for _ in range(measuring.PER_USER)]
    with pytest.raises(TargetError, match="too many measurements at once"):
        bed.connector.measure()
    held.pop().abort()

    def room():
        try:
            held.append(bed.connector.measure())
        except TargetError:
            return False
        return True

    until(room)
    for measurement in held:
        measurement.abort()


def test_all_users_have_a_most_at_once():
    offer = measuring.Measurements()
    services = [offer(None, f"user{number}", None) for number in range(measuring.MOST)]
    assert offer.census() == {"measurements": measuring.MOST}
    with pytest.raises(TargetError):
        offer(None, "one more", None)
    for service in services:
        service.reset()
        service.reset()
    assert len(offer) == 0
    offer(None, "one more", None).reset()


def test_it_ends_after_its_longest_time(bed, monkeypatch):
    monkeypatch.setattr(measuring, "SPARE", 0.5)
    monkeypatch.setattr(measuring, "LONGEST", 0.5)
    measurement, stream = asked(bed, b'{"do": "echo"}\n')
    with pytest.raises(LaneError), gevent.Timeout(30):
        while stream.recv():
            pass
    measurement.abort()


@pytest.mark.parametrize("do", ["echo", "up", "down"])
def test_a_client_that_says_no_more_holds_its_place_only_for_a_moment(bed, do):
    measurement, _ = asked(bed, json.dumps({"do": do, "seconds": 30 if do != "down" else 0}).encode() + b"\n")
    offer = bed.server.requests._offers[8]
    until(lambda: len(offer) == 1)
    gevent.sleep(measuring.PATIENCE + 1)
    until(lambda: len(offer) == 0)
    measurement.abort()
