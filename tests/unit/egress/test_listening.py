"""The ports that a server opens for its clients: who may connect, who gets it, and that all is bounded."""

import os
import resource

import gevent
import pytest
from gevent import socket

from lane.address import Address
from lane.egress import listening, listening_port
from lane.egress.listening import Ports
from lane.egress.policy import ListenRule, Policy, Rule
from lane.errors import Closed, Status, TargetError
from lane.net.resolver import Resolver
from lane.testing.harness import outcome, until
from tests.support.names import Names

pytestmark = pytest.mark.usefixtures("clock")
LOOPBACK = Address("127.0.0.1", 0)
ANYWHERE = (ListenRule.parse("*"),)


@pytest.fixture
def make():
    """A function that makes ports; all of them must be closed at the end."""
    made = []

    def ports(deny=(), resolver=None, rules=ANYWHERE, bind=True, **options):
        policy = Policy((), [Rule.parse(text) for text in deny], local=True)
        made.append(Ports(policy, resolver or Resolver(), rules, bind=bind, **options))
        return made[-1]

    yield ports
    for each in made:
        each.close()
        until(lambda each=each: len(each) == 0)


def waiting(port, able=lambda: True):
    return gevent.spawn(outcome, port.accept, able)


def dial(where, source="127.0.0.1"):
    return socket.create_connection(where, 10, (source, 0))


def is_reset(sock):
    """Whether the other side resets it: a clean end would be one of data."""
    try:
        sock.recv(1)
    except ConnectionResetError:
        return True
    return False


def refuses(where):
    try:
        dial(where).close()
    except ConnectionRefusedError:
        return True
    return False


def status_of(call, *arguments):
    with pytest.raises(TargetError) as caught:
        call(*arguments)
    return caught.value.status, str(caught.value)


# One connection from an expected peer.


@pytest.mark.parametrize("peer", ["127.0.0.1", "0.0.0.0", "::", "localhost"])
def test_no_port_is_opened_for_a_peer_where_that_is_not_allowed(make, peer):
    ports = make(bind=False)
    status, text = status_of(ports.expect, Address(peer, 0), "ann")
    assert status is Status.NOT_ALLOWED
    assert text == "not allowed: the server opens no ports for BIND (its --allow-bind)"
    assert len(ports) == 0


def test_the_expected_peer_is_taken_and_nobody_after_it(make):
    ports = make()
    port = ports.expect(Address("127.0.0.1", 21), "user")
    job = waiting(port)
    with dial(port.bound) as here:
        sock, peer = job.get()
        with sock:
            assert peer == Address(*here.getsockname())
            assert len(ports) == 0
            assert refuses(port.bound)
            here.sendall(b"hello")
            assert sock.recv(10) == b"hello"
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_others_are_sent_away(make):
    port = make().expect(LOOPBACK, "user")
    job = waiting(port)
    for _ in range(3):
        with dial(port.bound, "127.0.0.2") as stranger:
            assert is_reset(stranger)
    with dial(port.bound) as here:
        assert job.get()[1].port == here.getsockname()[1]
        job.get()[0].close()


def test_anyone_is_whom_the_policy_lets_through(make):
    port = make(deny=["127.0.0.2"]).expect(Address("0.0.0.0", 0), "user")
    job = waiting(port)
    where = ("127.0.0.1", port.bound.port)
    with dial(where, "127.0.0.2") as stranger:
        assert is_reset(stranger)
    with dial(where, "127.0.0.3") as here:
        sock, peer = job.get()
        sock.close()
        assert peer == Address("127.0.0.3", here.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.2", "::ffff:127.0.0.2", "224.0.0.1"])
def test_a_peer_that_the_policy_refuses_gets_no_port(make, host):
    ports = make(deny=["127.0.0.2"])
    assert status_of(ports.expect, Address(host, 21), "user")[0] is Status.NOT_ALLOWED
    assert len(ports) == 0


@pytest.mark.parametrize("peer", ["127.0.0.1", "0.0.0.0", "::"])
def test_without_a_route_to_the_peer_nothing_is_opened(make, monkeypatch, peer):
    def own_address(host):
        raise TargetError(Status.NETWORK_UNREACHABLE, "no route")

    monkeypatch.setattr(listening, "own_address", own_address)
    ports = make()
    assert status_of(ports.expect, Address(peer, 21), "user")[0] is Status.NETWORK_UNREACHABLE
    assert len(ports) == 0


def test_a_name_stands_for_those_of_its_addresses_that_pass(make):
    ports = make(deny=["127.0.0.2"], resolver=Names("::1", "127.0.0.2", "127.0.0.3"))
    port = ports.expect(Address("peer.test", 21), "user")
    assert port.bound.host == "127.0.0.1"  # IPv4 comes first: SOCKS4 and FTP know nothing else
    job = waiting(port)
    with dial(port.bound, "127.0.0.2") as denied, dial(port.bound, "127.0.0.3") as here:
        assert is_reset(denied)
        sock, peer = job.get()
        sock.close()
        assert peer == Address("127.0.0.3", here.getsockname()[1])


def test_nobody_comes_in_time(make):
    ports = make(wait=0.02)
    port = ports.expect(LOOPBACK, "user")
    assert status_of(port.accept, lambda: True)[0] is Status.TTL_EXPIRED
    assert len(ports) == 0


def test_a_port_can_be_closed_while_somebody_waits(make):
    ports = make()
    port = ports.expect(LOOPBACK, "user")
    job = waiting(port)
    gevent.sleep(0)
    for _ in range(2):
        port.close()
    assert isinstance(job.get(), Closed)
    assert len(ports) == 0
    assert refuses(port.bound)


# Connections to a port where sessions are parked.


def test_each_parked_session_gets_one_connection_in_turn(make):
    ports = make()
    first = ports.park(LOOPBACK, "user")
    assert first.bound.port
    others = [ports.park(first.bound, "user") for _ in range(2)]
    assert len(ports) == 1
    for place in (first, *others):
        job = waiting(place)
        with dial(first.bound) as here:
            sock, peer = job.get()
            sock.close()
            assert peer == Address(*here.getsockname())


def test_a_connection_waits_until_a_session_can_take_it(make):
    ports = make()
    able = []
    lost, there = (ports.park(Address("127.0.0.1", 0), "user") for _ in range(2))
    lost_job, job = waiting(lost, lambda: False), None
    with dial(lost.bound) as here:
        here.sendall(b"hello")
        there = ports.park(lost.bound, "user")
        job = waiting(there, lambda: bool(able))
        gevent.sleep(1)
        assert not job.ready()
        able.append(True)
        there.poke()
        sock, _ = job.get()
        with sock:
            assert sock.recv(10) == b"hello"
    assert not lost_job.ready()


def test_the_port_outlives_its_sessions_for_a_while_only(make):
    ports = make(linger=1.0)
    place = ports.park(LOOPBACK, "user")
    place.close()
    with dial(place.bound) as here:  # the kernel holds it
        again = ports.park(place.bound, "user")
        sock, _ = again.accept(lambda: True)
        with sock:
            sock.sendall(b"hello")
            assert here.recv(10) == b"hello"
    kept = ports.park(place.bound, "user")
    gevent.sleep(2)
    assert len(ports) == 1
    kept.close()
    until(lambda: len(ports) == 0)
    assert refuses(place.bound)


def test_a_connection_that_nobody_took_is_reset(make):
    ports = make()
    place = ports.park(LOOPBACK, "user")
    with dial(place.bound) as here:
        place.able = lambda: True
        place.poke()
        until(lambda: place._arrival)
        place.close()
        assert is_reset(here)


def test_closing_a_port_ends_who_waits(make):
    ports = make()
    place = ports.park(LOOPBACK, "user")
    job = waiting(place)
    gevent.sleep(0)
    with dial(place.bound):
        job.get()[0].close()
    job = waiting(ports.park(place.bound, "user"), lambda: False)
    gevent.sleep(0)
    with dial(place.bound) as here:
        gevent.sleep(1)
        ports.close()
        assert isinstance(job.get(), Closed)
        assert is_reset(here)


@pytest.mark.parametrize("rules", [(), ("127.0.0.1:1-9",), ("127.0.0.2:*",)])
def test_nothing_is_opened_without_a_rule(make, rules):
    ports = make(rules=tuple(ListenRule.parse(rule) for rule in rules))
    status, text = status_of(ports.park, Address("127.0.0.1", 9000), "user")
    assert (status, text) == (Status.NOT_ALLOWED, "not allowed (the server's --allow-reverse)")
    assert len(ports) == 0


def test_a_port_belongs_to_its_user(make):
    ports = make()
    place = ports.park(LOOPBACK, "one")
    assert status_of(ports.park, place.bound, "two") == (
        Status.NOT_ALLOWED,
        "not allowed: the port is another user's",
    )
    status, text = status_of(ports.park, Address("0.0.0.0", place.bound.port), "two")
    assert (status, text.partition(": ")[2]) == (Status.FAILURE, "address already in use")
    assert len(ports) == 1


def test_where_nobody_can_listen(make):
    ports = make()
    assert status_of(ports.park, Address("192.0.2.1", 9000), "user")[0] is Status.FAILURE
    assert status_of(ports.park, Address("name.test", 9000), "user")[0] is Status.ADDRESS_NOT_SUPPORTED
    no_scope = Address("fe80::1%" + "\u00e9" * 70, 9000)
    assert status_of(ports.park, no_scope, "user")[0] is Status.ADDRESS_NOT_SUPPORTED
    assert len(ports) == 0


def test_without_descriptors_it_is_said_that_there_is_no_port(make):
    ports = make()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        found = [status_of(call, LOOPBACK, "user") for call in (ports.expect, ports.park)]
        found.append(status_of(ports.expect, Address("0.0.0.0", 0), "user"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {status for status, _ in found} == {Status.FAILURE}
    assert all("too many open files" in text for _, text in found)
    assert len(ports) == 0


def test_every_address(make):
    place = make().park(Address("::", 0), "user")
    job = waiting(place)
    with dial(("127.0.0.1", place.bound.port)) as here:
        sock, peer = job.get()
        sock.close()
        assert peer == Address(*here.getsockname())  # IPv4, though it came to a socket of IPv6


# Limits.


@pytest.mark.parametrize("open_one", [lambda p, u: p.expect(LOOPBACK, u), lambda p, u: p.park(LOOPBACK, u)])
def test_ports_are_bounded_for_one_user_and_in_all(make, open_one):
    ports = make(most=3, most_per_user=2, linger=0.0)
    opened = [open_one(ports, "one") for _ in range(2)]
    assert status_of(open_one, ports, "one") == (Status.FAILURE, "too many ports of this user are open")
    opened.append(open_one(ports, "two"))
    assert status_of(open_one, ports, "three") == (Status.FAILURE, "too many ports are open")
    opened[0].close()
    until(lambda: len(ports) == 2)
    opened[0] = open_one(ports, "three")
    for port in opened:
        port.close()
    until(lambda: len(ports) == 0)
    assert not ports._open


def test_parked_sessions_are_bounded_and_a_stale_one_makes_room(make, monkeypatch):
    monkeypatch.setattr(listening_port, "MOST_PARKED", 3)
    ports = make()
    first = ports.park(LOOPBACK, "user")
    places = [first, *(ports.park(first.bound, "user") for _ in range(2))]
    works = [True, True, True]
    jobs = [waiting(place, lambda n=n: works[n]) for n, place in enumerate(places)]
    gevent.sleep(0)
    assert status_of(ports.park, first.bound, "user") == (
        Status.FAILURE,
        "too many sessions are parked there",
    )
    works[1] = False
    last = ports.park(first.bound, "user")
    assert isinstance(jobs[1].get(), Closed)
    assert not jobs[0].ready()
    assert not jobs[2].ready()
    for place in (*places, last):
        place.close()


def test_sessions_that_park_at_a_borrowed_port_at_once_share_it(make):
    ports = make()
    with socket.create_server(("127.0.0.1", 0)) as listener:  # another process's
        where = Address("127.0.0.1", listener.getsockname()[1])

        def borrow(where, user):
            gevent.sleep(0.01)
            return os.dup(listener.fileno())

        ports.borrow = borrow
        parking = [gevent.spawn(ports.park, where, "user") for _ in range(3)]
        places = [one.get(timeout=10) for one in parking]
        for place in places[:2]:
            place.close()
        gevent.sleep(2 * listening.LINGER)  # a port without sessions has closed
        lent = ports.lend(where, "user")
        assert lent is not None
        os.close(lent)
        job = waiting(places[2])
        with dial(where) as peer:
            sock, address = job.get(timeout=10)
            sock.close()
            assert address == Address(*peer.getsockname())
