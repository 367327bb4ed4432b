"""Associations outlive their carriers: packets may be lost, the association not."""

import gevent
import pytest

from lane.address import Address
from lane.carriers.connector import FastOpen
from lane.errors import TargetError
from lane.session import packets as packets_module
from lane.testing.harness import until
from lane.testing.memory import MemoryDatagrams
from tests.support.beds import making_beds

TARGET = Address("192.0.2.1", 53)


class App:
    """Who has an association: what came is in `got`."""

    def __init__(self, bed, **how):
        self.got = []
        self.association = bed.connector.associate(
            lambda source, payload: self.got.append((source, bytes(payload))), **how
        )

    def ask(self, payload, target=TARGET):
        """Send until it comes back: a packet may be lost while the association moves."""
        while (target, payload) not in self.got:
            self.association.send(target, payload)
            with gevent.Timeout(0.2, False):
                until(lambda: (target, payload) in self.got)


@pytest.fixture
def beds():
    with making_beds(ways=["cheap", "dear"]) as make:
        yield make


@pytest.mark.parametrize("fast", [FastOpen.OFF, FastOpen.ON])
def test_there_and_back_and_a_clean_end(beds, fast):
    bed = beds(fast_open=fast)
    app = App(bed)
    app.ask(b"hello")
    (world,) = bed.worlds
    assert world.got[0] == (TARGET, b"hello")
    app.association.close()
    app.association.close()
    assert app.association.over.wait(5)
    assert world.closed.wait(5)
    until(lambda: not len(bed.registry) and not len(bed.server_registry))
    assert not len(bed.associations)
    assert not bed.connector._associations


def test_what_waits_leaves_before_the_end(beds):
    bed = beds(fast_open=FastOpen.ON)
    app = App(bed)
    for number in range(50):
        app.association.send(TARGET, b"%d" % number)
    app.association.close()
    assert app.association.over.wait(5)
    assert [payload for _, payload in bed.worlds[0].got] == [b"%d" % number for number in range(50)]


def test_it_goes_on_when_its_carrier_is_lost(beds):
    bed = beds()
    app = App(bed)
    for number in range(10):
        app.ask(b"%d" % number)
        bed.ways["cheap"].drop()
    assert len(bed.worlds) == 1
    assert not app.association.over.is_set()


def test_it_goes_on_over_another_transport_and_back(beds):
    bed = beds()
    app = App(bed)
    app.ask(b"one")
    bed.ways["cheap"].cut()
    app.ask(b"two")
    bed.ways["cheap"].blocked = False
    bed.ways["dear"].cut()
    app.ask(b"three")
    assert len(bed.worlds) == 1


def test_a_server_that_is_new_ends_it(beds):
    bed = beds()
    app = App(bed)
    app.ask(b"one")
    bed.restart_server()
    app.association.send(TARGET, b"two")
    assert app.association.over.wait(10)
    until(lambda: not len(bed.registry))
    app.association.send(TARGET, b"three")  # harms nobody


def test_the_queue_is_bounded_and_the_oldest_packet_makes_room(beds):
    bed = beds()
    app = App(bed)
    app.ask(b"first")
    for way in bed.ways.values():
        way.held = True
    payload = bytes(1000)
    for number in range(20000):
        app.association.send(TARGET, number.to_bytes(4, "big") + payload)
        if not number % 100:
            gevent.sleep(0)
    packets = app.association._packets
    assert packets.queued <= packets_module.QUEUE
    assert packets.dropped > 10000
    session = app.association._session
    assert session.send_buffer.retained <= packets_module.WINDOW
    for way in bed.ways.values():
        way.release()
    until(lambda: bed.worlds[0].got[-1][1][:4] == (19999).to_bytes(4, "big"))  # the newest came


def test_associations_are_bounded_on_both_sides(beds):
    bed = beds(max_associations=3)
    apps = [App(bed) for _ in range(3)]
    with pytest.raises(TargetError, match="too many UDP associations"):
        App(bed)
    assert not bed.connector._associations - 3
    apps[0].association.close()
    until(lambda: not len(bed.server_registry) - 2 and not len(bed.registry) - 2)
    App(bed).ask(b"room again")

    bed.connector._max_associations = 100
    with pytest.raises(TargetError, match="too many UDP associations"):
        App(bed)  # the server says so
    until(lambda: len(bed.registry) == 3)
    assert len(bed.associations) == 3


def test_packets_that_fit_go_as_datagrams(beds, monkeypatch):
    sent = []

    def send(self, data, really=MemoryDatagrams.send):
        fits = really(self, data)
        if fits:
            sent.append(len(data))
        return fits

    monkeypatch.setattr(MemoryDatagrams, "send", send)
    bed = beds()
    for way in bed.ways.values():
        way._datagram_size = 1000
    app = App(bed)
    app.ask(b"first")
    for number, carried in enumerate(("cheap", "dear")):
        sent.clear()
        app.ask(b"small %d" % number)
        app.ask(bytes(900 + number))
        app.ask(bytes(5000 + number))
        assert len(sent) >= 2 * 2, "both of them, both ways"
        assert max(sent) <= 1000
        bed.ways[carried].cut()
        if carried == "cheap":
            app.ask(b"moved")
    app.association.close()


def test_datagrams_count_as_data_at_both_ends(beds):
    """The choice of a lane goes by what sessions move, and by what their carriers lose of it."""
    bed = beds()
    bed.ways["cheap"]._datagram_size = 1000
    app = App(bed)
    app.ask(b"first")
    (driver,) = bed.paths._drivers.values()
    (far,) = bed.server_registry.sessions
    far.protocol.peer_stats = None
    _, before = driver.count()
    for number in range(20):
        app.ask(b"%3d" % number + bytes(497))
        _, after = driver.count()
        assert after.ways[0] is not None, "what the client's carrier loses counts"
    assert after.moved - before.moved >= 20 * 2 * 500
    assert far.protocol.activity.datagrams_in + far.protocol.activity.datagrams_out >= 20 * 2 * 500
    assert driver.active
    assert driver.session in bed.registry.active
    told = driver.session.protocol.peer_stats

    def asked_again():
        app.association.send(TARGET, b"more")
        return driver.session.protocol.peer_stats is not told

    until(asked_again)  # the server tells what it lost
