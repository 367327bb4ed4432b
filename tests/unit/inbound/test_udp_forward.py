"""Local UDP ports that stand for one target: who gets an association, and when it ends."""

import logging
from itertools import product

import pytest
from gevent import socket
from gevent.event import Event

from lane.address import Address
from lane.errors import ConfigError, Status, TargetError
from lane.inbound import later, udp_forward
from lane.inbound.udp_forward import UdpForward
from lane.net import listen as net_listen
from lane.testing.harness import until
from tests.support.names import Names

pytestmark = pytest.mark.usefixtures("clock")

TARGET = Address("192.0.2.1", 53)
ANY_PORT = Address("127.0.0.1", 0)


class World:
    """Makes associations that say everything back, once they may; remembers them."""

    def __init__(self):
        self.made = []
        self.go = Event()
        self.go.set()
        self.error = None

    def associate(self, deliver, *, anyone=False):
        self.go.wait()
        if self.error:
            raise self.error
        self.made.append(Echo(deliver))
        return self.made[-1]


class Echo:
    def __init__(self, deliver):
        self.over, self.deliver, self.sent, self.closed = Event(), deliver, [], False

    def leaves(self, goes):
        pass

    def send(self, target, payload):
        self.sent.append((target, bytes(payload)))
        self.deliver(target, bytes(payload))

    def close(self):
        self.closed = True


@pytest.fixture
def world():
    return World()


@pytest.fixture
def make(world):
    made = []

    def make(address=ANY_PORT, idle_timeout=60.0, most=100):
        made.append(UdpForward(address, TARGET, world, idle_timeout=idle_timeout, most=most))
        made[-1].start()
        return made[-1]

    yield make
    for forward in made:
        forward.close()
        forward.close()
        forward.kill()


@pytest.fixture
def application():
    made = []

    def make(host="127.0.0.1"):
        made.append(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM))
        made[-1].bind((host, 0))
        return made[-1]

    yield make
    for sock in made:
        sock.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_there_and_back(make, world, application, host):
    forward = make(Address(host, 0))
    app = application("::1" if ":" in forward.address.host else "127.0.0.1")
    for number in range(3):
        app.sendto(b"%d" % number, (host, forward.address.port))
        assert app.recv(100) == b"%d" % number
    assert world.made[0].sent == [(TARGET, b"%d" % number) for number in range(3)]


@pytest.mark.parametrize(
    ("listening", "asked"),
    [*product(["", "::"], ["127.0.0.1", "127.0.0.7", "::1"]), ("0.0.0.0", "127.0.0.7")],
)
def test_answers_leave_from_where_they_were_asked(make, world, application, listening, asked):
    """A name server's answer from another address is none (RFC 5452 section 9.1)."""
    forward = make(Address(listening, 0))
    app = application("::1" if ":" in asked else "127.0.0.1")
    app.connect((asked, forward.address.port))  # the kernel takes packets from there only
    for number in range(3):
        app.send(b"%d" % number)
        assert app.recv(100) == b"%d" % number
    assert len(world.made) == len(forward) == 1


def test_who_asks_two_addresses_gets_an_answer_from_each(make, world, application):
    forward, app = make(Address("", 0)), application()
    for asked in ("127.0.0.2", "127.0.0.3"):
        app.sendto(b"?", (asked, forward.address.port))
        assert app.recvfrom(100) == (b"?", (asked, forward.address.port))


def test_each_source_has_an_association_of_its_own(make, world, application):
    forward = make()
    apps = [application() for _ in range(5)]
    for number, app in enumerate(apps):
        app.sendto(b"%d" % number, forward.address)
    for number, app in enumerate(apps):
        assert app.recv(100) == b"%d" % number
    assert len(world.made) == len(forward) == 5


def test_packets_wait_for_their_association_and_the_oldest_makes_room(make, world, application):
    world.go.clear()
    forward, app = make(), application()
    for number in range(later.WAITING + 3):
        app.sendto(b"%d" % number, forward.address)
    until(lambda: [source.association.dropped for source in forward._sources.values()] == [3])
    world.go.set()
    until(lambda: world.made and len(world.made[0].sent) == later.WAITING)
    assert world.made[0].sent[0] == (TARGET, b"3")


def test_the_source_that_was_not_heard_for_longest_makes_room(make, world, application):
    forward = make(most=3)
    apps = [application() for _ in range(4)]
    for app in apps[:3]:
        app.sendto(b"x", forward.address)
        app.recv(100)
    apps[0].sendto(b"still here", forward.address)
    apps[0].recv(100)
    apps[3].sendto(b"new", forward.address)
    assert apps[3].recv(100) == b"new"
    assert [one.closed for one in world.made] == [False, True, False, False]
    assert len(forward) == 3


def test_one_that_is_idle_ends(make, world, application, monkeypatch):
    monkeypatch.setattr(udp_forward, "SWEEP", 0.01)
    forward, app = make(idle_timeout=0.1), application()
    app.sendto(b"x", forward.address)
    app.recv(100)
    until(lambda: world.made[0].closed)
    assert not len(forward)
    app.sendto(b"again", forward.address)
    assert app.recv(100) == b"again"
    assert len(world.made) == 2


def test_one_that_the_server_ended_is_made_anew(make, world, application):
    forward, app = make(), application()
    app.sendto(b"x", forward.address)
    app.recv(100)
    world.made[0].over.set()
    app.sendto(b"again", forward.address)
    assert app.recv(100) == b"again"
    assert len(world.made) == 2


def test_a_refusal_costs_the_packets_and_no_more(make, world, application):
    world.error = TargetError(Status.NOT_ALLOWED, "no")
    forward, app = make(), application()
    world.go.clear()
    app.sendto(b"lost", forward.address)
    until(lambda: len(forward))
    world.go.set()
    until(lambda: not len(forward))
    world.error = None
    app.sendto(b"found", forward.address)
    assert app.recv(100) == b"found"


def test_an_association_that_comes_too_late_is_closed(make, world, application):
    world.go.clear()
    forward, app = make(), application()
    app.sendto(b"x", forward.address)
    until(lambda: len(forward))
    forward.close()
    world.go.set()
    until(lambda: world.made and world.made[0].closed)


def test_a_refusal_that_comes_late_leaves_the_next_one_alone(make, world, application, caplog):
    caplog.set_level(logging.INFO)
    late, asked = Event(), []

    def associate(deliver):
        asked.append(deliver)
        if len(asked) == 1:
            late.wait()
            raise TargetError(Status.FAILURE, "no")
        return Echo(deliver)

    world.associate = associate
    forward, app, other = make(most=1), application(), application()
    for number, sock in enumerate((app, other, app), 1):  # the last one has lost its place, and gets another
        sock.sendto(b"x", forward.address)
        until(lambda number=number: len(asked) == number)
    assert app.recv(100) == b"x"
    late.set()
    until(lambda: caplog.records)
    assert [where for _, where in forward._sources] == [app.getsockname()]


def test_a_port_that_is_taken(make):
    forward = make()
    with pytest.raises(ConfigError, match=rf"cannot listen on {forward.address} \(UDP\): .* in use"):
        make(forward.address)


def test_a_name_is_listened_on_at_all_its_addresses(make, application, monkeypatch):
    """And one sender at two of them is two sources."""
    monkeypatch.setattr(net_listen, "system_resolver", lambda: Names("127.0.0.1", "127.0.0.2"))
    forward, app = make(Address("name.test", 0)), application()
    for number, host in enumerate(("127.0.0.1", "127.0.0.2"), 1):
        app.sendto(b"to " + host.encode(), (host, forward.address.port))
        assert app.recvfrom(100) == (b"to " + host.encode(), (host, forward.address.port))
        assert len(forward) == number


@pytest.mark.parametrize("host", ["", "::"])
def test_every_address_is_one_of_both_families(make, host):
    forward = make(Address(host, 0))
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as app:
            app.sendto(b"hello", (host, forward.address.port))
            assert app.recvfrom(100)[0] == b"hello"
