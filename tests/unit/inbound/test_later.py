"""An association that is asked for when a packet needs it: who waits, what is dropped, and how it ends."""

import gevent
import pytest
from gevent.event import Event

from lane.address import Address
from lane.errors import Closed, Status, TargetError
from lane.inbound import later
from lane.inbound.later import Later
from lane.testing.harness import until

TARGET = Address("192.0.2.1", 53)
REFUSAL = TargetError(Status.FAILURE, "no")


class Asked:
    """Whoever is asked: answers once it may, and is the association as well."""

    def __init__(self):
        self.over, self.go = Event(), Event()
        self.error = None
        self.times = self.closed = 0
        self.sent, self.failures = [], []
        self.later = Later(self.ask, self.failures.append)

    def ask(self):
        self.times += 1
        self.go.wait()
        if self.error:
            raise self.error
        return self

    def send(self, target, payload):
        self.sent.append(payload)

    def close(self):
        self.closed += 1

    def packets(self, *numbers):
        for number in numbers:
            self.later.send(TARGET, memoryview(b"%d" % number))


@pytest.fixture
def asked():
    return Asked()


def test_the_first_packet_asks_and_a_few_wait_with_it(asked):
    gevent.idle()
    assert asked.times == 0
    asked.packets(*range(later.WAITING + 2))
    asked.go.set()
    until(lambda: asked.sent)
    asked.packets(99)
    assert asked.sent == [b"%d" % number for number in (*range(2, later.WAITING + 2), 99)]
    assert (asked.times, asked.later.dropped) == (1, 2)
    asked.over.set()
    until(asked.later.over.is_set)


@pytest.mark.parametrize("error", [REFUSAL, Closed("gone")])
def test_a_refusal_drops_what_waits_and_is_asked_about_again_after_a_pause(asked, error, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(later, "monotonic", lambda: now[0])
    asked.error = error
    asked.packets(1, 2)
    asked.go.set()
    until(lambda: asked.failures == [error])
    now[0] += later.PAUSE / 2
    asked.packets(3)
    gevent.idle()
    assert (asked.times, asked.later.dropped) == (1, 3)
    asked.error = None
    now[0] += later.PAUSE
    asked.packets(4)
    until(lambda: asked.sent == [b"4"])
    assert not asked.later.over.is_set()


def test_one_that_was_closed_meanwhile_is_closed_when_it_comes(asked):
    asked.packets(1)
    gevent.idle()
    asked.later.close()
    asked.go.set()
    until(lambda: asked.closed)
    asked.packets(2)
    gevent.idle()
    assert (asked.sent, asked.times, asked.later.dropped) == ([], 1, 1)


def test_who_wants_to_know_at_once_waits_for_the_answer(asked):
    asked.error = REFUSAL
    asked.go.set()
    with pytest.raises(TargetError):
        asked.later.open()
    assert not asked.failures
    asked.error = None
    asked.later.open()
    asked.packets(1)
    assert asked.sent == [b"1"]
    asked.later.close()
    assert asked.closed == 1
