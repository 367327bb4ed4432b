"""A process whose place another one takes: that one may die or hang."""

import gevent
import pytest

from lane.handover import channel, retirement
from lane.handover.exchange import Others
from lane.handover.retirement import FORMAT, Retirement
from lane.session.parcel import Parcel
from tests.support.workers import on_linux

pytestmark = on_linux
BIG = bytes(1 << 24)


class Leaving:
    """A parting, and what becomes of it."""

    def __init__(self):
        self.calls = []

    def pause(self):
        self.calls.append("pause")

    def resume(self):
        self.calls.append("resume")

    def leave(self, sock, lost, keeper):
        pass

    def rest(self):
        yield Parcel({"held": BIG}, [])

    def changed(self, succeeded):
        self.calls.append(succeeded)

    def end(self):
        self.calls.append("end")


@pytest.mark.parametrize(
    ("hangs", "calls"),
    [(True, ["pause", True, "end"]), (False, ["pause", True, False, "resume"])],
    ids=["hangs", "dies"],
)
def test_one_that_hangs_has_the_place_all_the_same_and_one_that_dies_has_not(monkeypatch, hangs, calls):
    monkeypatch.setattr(retirement, "SETTLE", 0.0)
    monkeypatch.setattr(retirement, "SEND_TIME", 0.1 if hangs else 60.0)
    here, there = gevent.socket.socketpair()
    leaving, others = Leaving(), Others([])
    with here, there:
        one = Retirement(leaving, others, leaving.changed, leaving.end)
        retiring = gevent.spawn(one.begin, here, FORMAT)
        assert channel.receive(there)[0] == {"paused": True}
        channel.send(there, {"serving": "it"})
        if not hangs:
            there.recv(1)
            there.close()
        retiring.get(timeout=10)
    assert leaving.calls == calls
    assert others.names == (["it"] if hangs else [])
