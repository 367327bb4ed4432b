import os

import gevent
import pytest

from lane.errors import Status, TargetError
from lane.handover import channel
from lane.handover.exchange import Desk, Others
from lane.session.parcel import Parcel
from tests.support.workers import on_linux

pytestmark = on_linux
BIG = bytes(1 << 24)


class Sessions:
    def __init__(self):
        self.asked = gevent.event.Event()

    def hand_over(self, key, generation):
        self.asked.set()
        return Parcel({"key": [*key], "generation": generation, "held": BIG}, [])


@pytest.fixture
def desk():
    name, sessions = channel.name(), Sessions()
    desk = Desk(channel.listen(name), sessions, lambda *_: None, None)
    yield desk, name, sessions
    desk.close()


def test_a_process_does_not_end_before_a_session_has_arrived(desk):
    desk, name, sessions = desk
    taking = gevent.spawn(Others([name]).take, ("user", b"session"), 3)
    sessions.asked.wait(10)
    desk.close()
    gevent.killall(list(desk._pool))  # what the end of the process does
    parcel = taking.get(timeout=10)
    assert parcel.state == {"key": ["user", b"session"], "generation": 3, "held": BIG}


def test_a_process_that_was_killed_may_know_the_session_and_one_that_has_departed_does_not():
    name = channel.name()
    with pytest.raises(TargetError) as caught:
        Others([name]).take(("user", b"session"), 3)
    assert caught.value.status is Status.TTL_EXPIRED
    assert Others([name], departed=name.__eq__).take(("user", b"session"), 3) is None


@pytest.mark.parametrize(
    "rows",
    [
        [["user", b"id", 1, "peer"]],
        [["user", b"id", 1, "peer", b"\x80"]] * 2,
        [["user", b"id", 1, "peer", b"\xc1"]],
        ["x"],
    ],
)
def test_what_comes_with_sessions_that_are_no_sessions_is_closed(rows):
    name, kept = channel.name(), []
    desk = Desk(channel.listen(name), Sessions(), lambda *_: None, None, kept.append)
    ours, theirs = os.pipe()
    with channel.connect(name) as sock:
        channel.send(sock, {"keep": rows}, [theirs])
        os.close(theirs)
        assert (
            gevent.spawn(gevent.os.tp_read, ours, 1).get(timeout=10) == b""
        )  # the end: nobody has the other one
    os.close(ours)
    desk.close()
    assert not kept
