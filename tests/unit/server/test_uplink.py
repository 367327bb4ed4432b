"""The carriers of users at a full uplink: which are looked at, which are held, and what remains."""

import gevent
import pytest

from lane.server import uplink as module
from lane.server.uplink import BUSY, Uplink
from lane.stream import LinkStats
from lane.testing.harness import until


class Carrier:
    """A carrier that has much to send over a path with round trips of `rtt`."""

    step = 100_000

    def __init__(self, rtt=0.1):
        self.has_more, self.rtt, self.rate, self.user = True, rtt, None, None
        self.delivered = self.looks = 0

    def belong(self, user):
        self.user = user

    def pace(self, rate):
        self.rate = rate

    def stats(self):
        self.looks += 1
        self.delivered += self.step
        return LinkStats(delivered=self.delivered, rtt=self.rtt)


class Foreign:
    """One of a transport that can't pace."""


@pytest.fixture
def uplink(monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.002)
    monkeypatch.setattr(module, "QUIET", 0.002)
    uplink = Uplink()
    monkeypatch.setattr(uplink._busy, "take", lambda: 0.0)
    return uplink


def test_a_user_with_more_carriers_than_another_is_held_while_both_have_more_to_send(uplink, monkeypatch):
    many, one = [Carrier() for _ in range(5)], Carrier()
    for carrier in many:
        uplink.enter(carrier, "many")
    gevent.sleep(0.02)
    assert [carrier.looks for carrier in many] == [0] * 5  # nobody to share with
    uplink.enter(one, "one")
    uplink.enter(Foreign(), "one")
    until(lambda: all(carrier.rate for carrier in many))
    assert one.rate is None
    assert (many[0].user, one.user) == ("many", "one")
    until(lambda: len({carrier.rate for carrier in many}) == 1)
    monkeypatch.setattr(module, "BUSY", 0.01)
    one.has_more = False
    until(lambda: not any(carrier.rate for carrier in many))
    one.has_more = True
    until(lambda: all(carrier.rate for carrier in many))
    uplink.leave(one, "one")
    uplink.leave(one, "one")
    until(lambda: not any(carrier.rate for carrier in many))
    assert uplink.census() == {"sending": 0}


def test_where_the_cpu_is_the_limit_whoever_has_more_than_the_average_is_held(uplink, monkeypatch):
    worked = 0.0
    monkeypatch.setattr(uplink._busy, "take", lambda: worked)
    fast, slow = Carrier(rtt=0.0001), Carrier(rtt=0.0001)
    slow.step = fast.step / 3
    uplink.enter(fast, "fast")
    uplink.enter(slow, "slow")
    single = Carrier(rtt=0.0001)  # its session takes turns
    single.one_stream = True
    uplink.enter(single, "tls")
    until(lambda: slow.looks > 5)
    assert (fast.rate, slow.rate) == (None, None)
    worked = 1.0
    until(lambda: fast.rate)
    assert single.rate is None
    worked = 0.5
    until(lambda: fast.rate is None)


def test_an_idle_carrier_is_not_measured(uplink):
    idle, other = Carrier(), Carrier()
    idle.has_more = False
    uplink.enter(idle, "a")
    uplink.enter(other, "b")
    until(lambda: other.looks > 5)
    assert idle.looks == 0
    assert BUSY > 0
