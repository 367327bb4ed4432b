"""Names of workers in connection IDs, and messages from one to another."""

import gevent
import pytest

from lane.net.siblings import Siblings, pair
from lane.testing.harness import until


@pytest.mark.parametrize("count", [2, 3, 7, 100, 128])
def test_an_identifier_names_its_worker(count):
    for index in {0, 1, count - 1}:
        own = Siblings(index, count)
        for first in range(256):
            named = own.named(bytes((first, 1, 2)))
            assert own.owner_of(named) == index
            assert named[1:] == b"\1\2"


def test_a_process_alone_changes_nothing():
    alone = Siblings()
    assert alone.named(b"\xffabc") == b"\xffabc"
    assert alone.owner_of(b"\xff") == 0
    alone.receive("topic", lambda _: None)
    assert alone._reading is None


@pytest.fixture
def two():
    inboxes = [pair(), pair()]
    both = [Siblings(number, 2, inboxes) for number in range(2)]
    yield both
    for one in both:
        if one._reading is not None:
            one._reading.kill()
    for inbox in inboxes:
        for end in inbox:
            end.close()


def test_messages(two):
    first, second = two
    heard = []
    second.receive("a", heard.append)

    def fail(message):
        raise ValueError("on purpose")

    second.receive("b", fail)
    first.send(1, "b", b"is reported")
    first.send(1, "nobody", b"is dropped")
    for number in range(3):
        first.send(1, "a", b"%d\0\0" % number)
    until(lambda: heard == [b"0\0\0", b"1\0\0", b"2\0\0"])


def test_a_worker_that_does_not_read_costs_no_time(two):
    first, second = two
    for _ in range(10_000):
        first.send(1, "a", bytes(1000))  # would block if it waited
    heard = []
    second.receive("a", heard.append)
    gevent.sleep(0)
    until(lambda: len(heard) > 0)
    assert len(heard) < 10_000


def test_a_flood_leaves_others_their_turn(two):
    first, second = two
    heard = []

    def again(message):
        heard.append(message)
        if len(heard) < 50_000:
            first.send(1, "a", message)

    second.receive("a", again)
    first.send(1, "a", b"there is always one more")
    until(lambda: heard)
    assert len(heard) < 50_000
