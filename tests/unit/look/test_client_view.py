"""The view of a client, on lanes in this process whose time is virtual."""

import json

import gevent
import pytest

from lane.look.client import ClientView
from lane.look.rates import MOST
from lane.testing.harness import until
from tests.support.beds import making_beds


@pytest.fixture
def bed():
    with making_beds(ways=["cheap", "dear"]) as make:
        yield make()


@pytest.fixture
def view(bed):
    view = ClientView(bed.paths)
    yield view
    view.close()


def test_lanes_and_sessions_and_how_fast_they_are(bed, view):
    told = view.tell()
    assert (told["role"], told["session_count"], told["sessions"], told["moves"]) == ("client", 0, [], [])
    assert told["headline"] == "carried by cheap: because"
    application = bed.application()
    gevent.sleep(1.0)
    view.tell()
    application.sock.sendall(b"x" * 100_000)
    until(lambda: application.session.moved_in == 100_000)
    gevent.sleep(2.0)
    told = json.loads(json.dumps(view.tell(), allow_nan=False))
    (session,) = told["sessions"]
    assert {key: session[key] for key in ("target", "transport", "up", "down", "user")} == {
        "target": "target.test:80",
        "transport": "cheap",
        "up": 100_000,
        "down": 100_000,
        "user": None,
    }
    assert session["up_rate"] > 1000
    assert session["age"] >= 3
    cheap, dear = told["lanes"]
    assert (cheap["name"], cheap["state"], cheap["sessions"]) == ("cheap", "carries", 1)
    assert (dear["name"], dear["state"], dear["sessions"]) == ("dear", "answers", 0)
    history = told["history"]
    assert max(history["lanes"]["cheap"]["goodput"]) >= 100_000
    assert set(history["lanes"]["cheap"]["carries"]) == {1}
    assert set(history["lanes"]["dear"]["carries"]) == {0}
    assert view.tell(told["now"])["history"]["times"] == []


def test_a_lane_that_does_not_answer_and_an_outage(bed, view):
    bed.application()
    bed.ways["dear"].cut()
    until(lambda: view.tell()["lanes"][1]["state"] == "silent")
    assert view.tell()["lanes"][1]["why"]
    bed.ways["cheap"].cut()
    until(lambda: view.tell()["headline"].startswith("not reached: "))
    now = view.tell()["now"]
    gevent.sleep(2.0)
    assert view.tell(now)["history"]["lanes"]["cheap"]["carries"][-1] == 0


def test_nothing_is_kept_of_sessions_once_nobody_looks(bed, view):
    bed.application().sock.sendall(b"x")
    view.tell()
    assert len(view._rates) == 1
    gevent.sleep(MOST + 2.0)
    assert len(view._rates) == 0
