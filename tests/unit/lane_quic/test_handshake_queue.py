"""lane_quic/handshake_queue.py: whose handshake is next, and what waits for it at most."""

import logging
from collections import Counter
from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event
from lane_quic import handshake_queue
from lane_quic.handshake_queue import FirstFlight, HandshakeQueue

from lane.testing.harness import until


def flight(name, host="192.0.2.1"):
    header = SimpleNamespace(destination_cid=name.encode())
    return FirstFlight(lambda datagrams: None, ((host, 5), None), header, None, [b"first"])


@pytest.fixture
def queue():
    """One that begins nothing until `gate` is set; `begun` has what it began, in order."""

    def begin(flight):
        queue.gate.wait()
        queue.begun.append(flight.header.destination_cid.decode())

    there = Counter()
    queue = HandshakeQueue(begin, there.__getitem__)
    queue.gate, queue.begun, queue.there = Event(), [], there
    yield queue
    queue.close()


def fill(queue, *flights):
    """The first of them begins, and waits for the gate."""
    queue.add(flights[0])
    until(lambda: not len(queue))
    for each in flights[1:]:
        queue.add(each)


def test_a_crowd_does_not_keep_out_others(queue):
    crowd = [flight(f"crowd{number}", f"198.51.100.{number % 10}") for number in range(100)]
    fill(queue, *crowd, flight("honest"))
    queue.gate.set()
    until(lambda: not len(queue))
    assert queue.begun.index("honest") <= 2
    assert len(queue.begun) == 101


def test_who_has_strangers_there_already_comes_later(queue):
    """As many handshakes wait of each address, and of some there are clients that have not proven a key."""
    crowd = [flight(f"crowd{number}", f"198.51.100.{number}") for number in range(100)]
    queue.there.update(f"198.51.100.{number}" for number in range(100))
    fill(queue, *crowd, flight("honest"))
    queue.gate.set()
    until(lambda: not len(queue))
    assert queue.begun.index("honest") <= 2


def test_who_is_of_a_crowd_has_a_turn_while_others_come(queue):
    """Half of all handshakes are of those who waited longest, whoever comes in between."""
    crowd = [flight(f"crowd{number}", "198.51.100.1") for number in range(20)]
    fill(queue, *crowd)
    begin, number = queue._begin, 0

    def begin_and_another_comes(one):
        nonlocal number
        begin(one)
        number += 1
        if number < 60:
            queue.add(flight(f"other{number}", f"192.0.2.{number}"))

    queue._begin = begin_and_another_comes
    queue.gate.set()
    until(lambda: not len(queue))
    assert max(queue.begun.index(f"crowd{number}") for number in range(20)) < 45


def test_what_waits_is_bounded_and_the_fullest_address_loses(queue, monkeypatch):
    monkeypatch.setattr(handshake_queue, "MAX_WAITING", 5)
    small = HandshakeQueue(queue._begin, queue._strangers)
    fill(small, flight("begun"), flight("honest"), *(flight(f"c{n}", "198.51.100.1") for n in range(10)))
    assert len(small) == 5
    queue.gate.set()
    until(lambda: not len(small))
    assert sorted(queue.begun) == ["begun", "c6", "c7", "c8", "c9", "honest"]
    small.close()


def test_more_of_a_client_is_kept_within_bounds(queue):
    first = flight("cid")
    fill(queue, flight("begun"), first)
    assert not queue.more(b"another", b"data", first.path)
    assert queue.more(b"cid", b"spoofed", (("203.0.113.1", 5), None))
    for number in range(10):
        assert queue.more(b"cid", b"%d" % number, first.path)
    assert first.datagrams == [b"first", b"0", b"1", b"2"]


def test_one_that_fails_costs_itself(queue, caplog):
    caplog.set_level(logging.ERROR)
    begin = queue._begin

    def fail_once(one):
        queue._begin = begin
        raise OSError("a fault")

    queue._begin = fail_once
    queue.gate.set()
    for name in ("bad", "good"):
        queue.add(flight(name))
    until(lambda: queue.begun == ["good"])
    assert "making a connection for 192.0.2.1 failed" in caplog.text


def test_one_that_is_closed_begins_nothing_more(queue, caplog):
    """Even if its loop was woken before that."""
    queue.gate.set()
    gevent.idle()  # it waits
    for number in range(5):
        queue.add(flight(f"{number}"))
    queue.close()
    queue._loop.join()
    assert not queue.begun
    assert not len(queue)
    assert not caplog.records


def test_others_have_their_turn_between_two(queue):
    """A queue that is never empty must not keep the event loop from its sockets."""
    queue.gate.set()
    seen = []

    def looks():
        while len(queue.begun) < 50:
            gevent.sleep(0.0001)
            seen.append(len(queue.begun))

    looking = gevent.spawn(looks)
    gevent.sleep(0)
    for number in range(50):
        queue.add(flight(f"{number}"))
    looking.join()
    assert any(0 < count < 50 for count in seen)
