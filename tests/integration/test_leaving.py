"""A client's connections that leave for another process: here another client of the same server."""

import random

import gevent
import pytest
from gevent import socket

from lane.address import Address
from lane.carriers.connector import FastOpen, TunnelConnector
from lane.carriers.path_control import PathControl
from lane.carriers.session_driver import SessionDeadlines
from lane.handover import channel
from lane.session.parcel import Elsewhere, Parcel
from lane.session.registry import Registry
from lane.testing.harness import until
from tests.support.beds import COST, MB, making_beds


class Client:
    """Another client of a bed's server."""

    def __init__(self, bed):
        self.registry = Registry(16 * MB, 512 * MB, 3600.0, 1000, 1000)
        pools = {name: (COST[name], bed.pool(name)) for name in bed.ways}
        self.paths = PathControl(pools, self.registry, "because")
        deadlines = SessionDeadlines(10.0, 20.0)
        self.connector = TunnelConnector(self.paths, self.registry, deadlines, FastOpen.OFF, 10)
        self.departures = self.connector.departures

    def take(self, other, name):
        """Go on with a connection of another client. Returns whether it has left there."""
        parcel = other.departures.hand_over(("", name), 0)
        if parcel is not None:
            state = channel.unpack(channel.pack(parcel.state))
            gevent.spawn(self.connector.take_over(Parcel(state, parcel.descriptors), None))
        return parcel is not None

    def close(self):
        self.paths.close()
        self.registry.close()


@pytest.fixture
def bed():
    with making_beds(ways=("cheap", "dear")) as make:
        yield make()


@pytest.fixture
def clients(bed):
    made = [Client(bed) for _ in range(2)]
    yield made
    for one in made:
        one.close()


def opened(client, port=80):
    """The application's end of a connection through a client."""
    here, there = socket.socketpair()
    connection = client.connector.connect(Address("target.test", port))
    gevent.spawn(connection.run, there, b"")
    until(client.departures.ready)
    (name,) = client.departures.ready()
    return here, name


@pytest.mark.parametrize("seed", range(3))
def test_it_goes_on_whatever_moves(bed, clients, seed):
    chance, (one, other) = random.Random(seed), clients
    data = chance.randbytes(20 * MB)
    app, name = opened(one)
    got = bytearray()

    def read():
        while more := app.recv(1 << 17):
            got.extend(more)
            gevent.sleep(0.01)

    def send():
        app.sendall(data)
        app.shutdown(socket.SHUT_WR)

    jobs = [gevent.spawn(read), gevent.spawn(send)]
    left = 0
    while not jobs[0].ready():
        gevent.sleep(chance.choice((0, 0.001, 0.01, 0.3)))
        if chance.random() < 0.2:
            chance.choice([*bed.ways.values()]).drop()
        if other.take(one, name):
            one, other, left = other, one, left + 1
    assert bytes(got) == data
    assert left > 3
    until(lambda: not len(one.registry) and not len(other.registry))
    assert not any(map(len, (one.paths, other.paths, one.departures, other.departures)))
    app.close()


def test_one_that_is_on_its_way_to_another_stream_leaves(bed, clients):
    one, other = clients
    app, name = opened(one)
    (driver,) = one.paths._drivers.values()
    bed.ways["dear"].held = True  # the server's answer does not come before the connection has left
    driver.move(one.paths.lanes.lanes["dear"])
    until(lambda: driver.requests.generation == 1)
    assert other.take(one, name)
    app.sendall(b"hello")
    assert app.recv(5) == b"hello"
    bed.ways["dear"].release()
    app.sendall(b"again")
    assert app.recv(5) == b"again"
    app.close()


def test_one_without_an_answer_waits_for_it(bed, clients):
    (one, _), (here, there) = clients, socket.socketpair()
    one.connector._fast_open = FastOpen.ON
    for way in bed.ways.values():
        way.held = True
    connection = one.connector.connect(Address("target.test", 80))
    gevent.spawn(connection.run, there, b"")
    until(lambda: len(one.departures))
    name = connection.driver.key
    assert not one.departures.ready()
    assert one.departures.hand_over(("", name), 0) is None
    for way in bed.ways.values():
        way.release()
    until(one.departures.ready)
    here.close()


def test_it_leaves_once(clients):
    one, other = clients
    app, name = opened(one)
    asked = gevent.spawn(one.departures.hand_over, ("", name), 0)
    gevent.sleep(0)
    with pytest.raises(Elsewhere):
        one.departures.hand_over(("", name), 0)
    asked.get().close()
    assert not other.take(one, name)
    with pytest.raises(ConnectionError):  # nobody took it
        app.sendall(b"x")
        app.recv(1)
    app.close()
