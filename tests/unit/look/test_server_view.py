"""The view of a server, on lanes in this process whose time is virtual."""

import json

import gevent
import pytest

from lane.look.rates import MOST as FORGOTTEN
from lane.look.server import Board, ServerView, _users
from lane.look.sessions import MOST
from lane.net.questions import Questions
from lane.net.siblings import Siblings
from lane.server.live import LiveSession
from lane.tally import PID, SESSIONS, SINCE, Tally
from lane.testing.harness import until
from lane.users.users import Users
from tests.support.beds import making_beds


@pytest.fixture
def bed():
    with making_beds(ways=["cheap", "dear"]) as make:
        yield make()


@pytest.fixture
def view(bed):
    tally, users = Tally(), Users()
    tally.put(0, PID, 7)
    tally.put(0, SINCE, 1000)
    tally.put(0, SESSIONS, 3)
    board, questions = Board(("cheap", "dear")), Questions(Siblings())
    view = ServerView(
        bed.server, bed.live, bed.server_registry, users,
        board=board, questions=questions, tally=tally, worker=0, pid=7,
    )  # fmt: skip
    yield view
    view.close()
    users.close()


def test_sessions_users_and_what_each_transport_carries(bed, view):
    one, _, _ = (bed.application() for _ in range(3))
    gevent.sleep(1.0)
    view.tell()
    one.sock.sendall(b"x" * 100_000)
    until(lambda: one.session.moved_in == 100_000)
    gevent.sleep(2.0)
    told = json.loads(json.dumps(view.tell(), allow_nan=False))
    assert told["headline"].startswith("1 process, 3 sessions, ")
    assert (told["pid"], told["since"], told["moved"], told["moves"]) == (7, 1000, 0, [])
    busy, *others = told["sessions"]
    assert (busy["id"], busy["target"], busy["user"]) == ("1-1", "target.test:80", "user")
    assert (busy["transport"], busy["up"], busy["down"]) == ("cheap", 100_000, 100_000)
    assert busy["down_rate"] > 1000
    assert [(other["id"], other["down_rate"]) for other in others] == [
        ("1-3", 0),
        ("1-2", 0),
    ]  # the newest first
    (user,) = told["users"]
    assert (user["name"], user["sessions"], user["up"], user["quota"]) == ("user", 3, 100_000, None)
    assert user["up_rate"] > 1000
    cheap, dear = told["lanes"]
    assert (cheap["name"], cheap["sessions"], cheap["state"]) == ("cheap", 3, None)
    assert (dear["name"], dear["sessions"]) == ("dear", 0)
    carried = told["history"]["lanes"]["cheap"]["goodput"]
    assert sum(carried) == pytest.approx(200_000, rel=0.5)  # a second may be longer than that
    assert told["workers"] == [{"pid": 7, "since": 1000, "sessions": 3, "carriers": 0, "restarts": 0}]


def test_what_is_shown_and_what_is_kept_is_bounded(bed, view):
    for _ in range(MOST + 20):
        bed.application()
    told = view.tell()
    assert len(told["sessions"]) == len({row["id"] for row in told["sessions"]}) == MOST
    assert told["lanes"][0]["sessions"] == MOST + 20
    gevent.sleep(FORGOTTEN + 2.0)
    assert (len(view._session_rates), len(view._user_rates)) == (0, 0)
    assert len(view._links) <= MOST + 20
    rows = [row(f"user-{number:04}", up_rate=number % 7) for number in range(3 * MOST)]
    found = _users([rows[:MOST], rows[MOST:]])
    assert len(found) == MOST
    assert [one["up_rate"] for one in found] == sorted((one["up_rate"] for one in found), reverse=True)


def test_sessions_at_rest_are_not_looked_at(bed, view, monkeypatch):
    looked = []
    settle = LiveSession.settle
    monkeypatch.setattr(
        LiveSession, "settle", lambda live, to: (looked.append(live.number), settle(live, to))
    )
    one, _ = bed.application(), bed.application()
    gevent.sleep(30.0)
    looked.clear()
    gevent.sleep(10.0)
    assert looked == []
    one.sock.sendall(b"x")
    until(lambda: one.session.moved_in == 1)
    gevent.sleep(2.0)
    assert set(looked) == {1}


def row(name, **values):
    row = dict.fromkeys(("sessions", "up", "down", "up_rate", "down_rate"), 0)
    return row | {"name": name, "online": False, "used": None} | values


def test_a_user_of_several_processes_is_one():
    here = row("alice", sessions=1, up=5, down_rate=100, used=30)
    there = row("alice", sessions=2, up=7, down_rate=10, online=True)
    (alice, bob) = _users([[here], [there, row("bob")]])
    assert alice == row("alice", sessions=3, up=12, down_rate=110, used=30, online=True)
    assert bob["name"] == "bob"
