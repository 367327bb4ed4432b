"""Dialling over QUIC: nobody, silence, narrow paths, many addresses, and giving up at any moment."""

import gevent
import pytest
from gevent import socket
from lane_quic import endpoint
from lane_quic.configuration import LARGE_DATAGRAM, SMALL_DATAGRAM
from lane_quic.engine import mtu_discovery
from lane_quic.plugin import QuicTransport

from lane.errors import Refused, Unreachable
from lane.net.connect import Connector
from lane.stream import Address
from lane.testing import PinnedClient
from lane.testing.harness import Kit, until
from tests.support.descriptors import opened
from tests.support.names import Names
from tests.support.quic_endpoints import Relay, exchange, udp

LOOPBACK = Address("127.0.0.1", 0)


@pytest.fixture
def kit():
    with gevent.Timeout(30, AssertionError("the test hangs")):
        kit = Kit(QuicTransport(), LOOPBACK)
        try:
            yield kit
        finally:
            kit.close()


@pytest.fixture
def silent():
    sock = udp()
    yield sock
    sock.close()


@pytest.fixture
def relay(kit):
    relay = Relay(kit.listener.address)
    yield relay
    relay.close()


def sizes(sock):
    """Sizes of the datagrams that a socket has got."""
    sock.settimeout(0.2)
    found = []
    with pytest.raises(TimeoutError):
        while True:
            found.append(len(sock.recv(65536)))
    return found


def test_a_closed_port_is_noticed_by_its_refusal(kit):
    sock = udp()
    port = sock.getsockname()[1]
    sock.close()
    with pytest.raises(Unreachable, match="nobody listens on that port"):
        endpoint.dial(Address("127.0.0.1", port), kit.client_tls)


def test_silence_is_unreachable(kit, silent, monkeypatch):
    monkeypatch.setattr(endpoint, "DIAL_TIMEOUT", 0.3)
    with pytest.raises(Unreachable, match="no answer"):
        endpoint.dial(Address(*silent.getsockname()), kit.client_tls)
    assert set(sizes(silent)) == {SMALL_DATAGRAM}


@pytest.mark.parametrize("narrow", [{True}, {False}, {True, False}], ids=["up", "down", "both"])
def test_a_path_that_drops_large_datagrams(kit, relay, narrow):
    """Each side finds what its own way carries."""
    relay.harm = lambda datagram, up: [] if up in narrow and len(datagram) > 1300 else [datagram]
    near = endpoint.dial(Address("127.0.0.1", relay.port), kit.client_tls)
    far = kit.listener.accept()
    for side, up in ((near, True), (far, False)):
        low, high = (1300 - mtu_discovery.CLOSE, 1300) if up in narrow else (LARGE_DATAGRAM, LARGE_DATAGRAM)
        while not low <= side.engine._max_datagram_size <= high:
            exchange(near, far, 20_000)
    near.close()


def test_a_path_that_carries_large_datagrams_gets_them(kit):
    near, far = kit.dial()
    while {near.engine._max_datagram_size, far.engine._max_datagram_size} != {LARGE_DATAGRAM}:
        exchange(near, far, 20_000)


def test_a_path_that_becomes_narrow_in_mid_transfer(kit, relay):
    near = endpoint.dial(Address("127.0.0.1", relay.port), kit.client_tls)
    far = kit.listener.accept()
    while {near.engine._max_datagram_size, far.engine._max_datagram_size} != {LARGE_DATAGRAM}:
        exchange(near, far, 20_000)
    passed = []

    def narrow(datagram, up):
        if len(datagram) > 1300:
            return []
        passed.append(len(datagram))
        return [datagram]

    relay.harm = narrow
    while max(passed, default=0) <= 1200:  # until it has found more
        exchange(near, far, 200_000)
    near.close()


def test_garbage_is_no_answer(kit, silent, monkeypatch):
    monkeypatch.setattr(endpoint, "DIAL_TIMEOUT", 0.4)

    def babble():
        while True:
            _, client = silent.recvfrom(65536)
            for noise in (b"\x40", b"\xc0" + bytes(40), b"\x40" + bytes(60), b"\xff" * 1200):
                silent.sendto(noise, client)

    babbling = gevent.spawn(babble)
    with pytest.raises(Unreachable, match="no answer"):
        endpoint.dial(Address(*silent.getsockname()), kit.client_tls)
    babbling.kill()


def known_as(monkeypatch, *found, **known):
    """Have names be looked up by a resolver of the test's."""
    names = Names(*found, **known)
    monkeypatch.setattr(endpoint, "_connector", Connector(names))
    return names


def test_an_address_that_is_silent_is_overtaken(kit, monkeypatch):
    """And tried after the other from then on."""
    known_as(monkeypatch, "127.0.0.2", "127.0.0.1")
    port = kit.listener.address.port
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.2", port))
    kit.dial()[0].close()
    until(lambda: not kit.listener._carriers)
    before = opened()
    for _ in range(2):
        near = endpoint.dial(Address("two.test", port), kit.client_tls)
        exchange(near, kit.listener.accept())
        near.close()
    until(lambda: not kit.listener._carriers)
    until(lambda: not opened() - before)
    silent.settimeout(0)
    callers = set()
    with pytest.raises(BlockingIOError):
        while True:
            callers.add(silent.recvfrom(65536)[1])
    silent.close()
    assert len(callers) == 1


def test_the_address_of_another_server_is_overtaken(kit, monkeypatch):
    """The server that is wrong refuses, and the one that is right may be the next."""
    known_as(monkeypatch, "127.0.0.2", "127.0.0.1")
    other = Kit(QuicTransport(), Address("127.0.0.2", kit.listener.address.port))
    endpoint.dial(Address("two.test", kit.listener.address.port), kit.client_tls).close()
    with pytest.raises(Refused, match="not the pinned one"):
        endpoint.dial(Address("two.test", kit.listener.address.port), PinnedClient(bytes(32)))
    other.close()


def test_looking_up_a_name_counts_as_dialling(kit, monkeypatch):
    monkeypatch.setattr(endpoint, "DIAL_TIMEOUT", 0.05)
    known_as(monkeypatch).go.clear()
    with pytest.raises(Unreachable, match="timed out"):
        endpoint.dial(Address("slow.test", 1), kit.client_tls)


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "name.invalid", "..", "1.2.3.4.5"])
def test_names_that_are_none(kit, host, monkeypatch):
    known_as(monkeypatch)
    with pytest.raises(Unreachable, match=r"not a host name|name not known") as caught:
        endpoint.dial(Address(host, 1), kit.client_tls)
    assert "\n" not in str(caught.value)


def test_addresses_that_can_not_be_reached(kit):
    with pytest.raises(Unreachable, match=r"unreachable|[Ii]nvalid|denied"):
        endpoint.dial(Address("255.255.255.255", 1), kit.client_tls)


@pytest.mark.parametrize("how", ["timeout", "kill"])
@pytest.mark.parametrize("whom", ["server", "silence"])
def test_giving_up_at_any_moment_leaves_no_socket(kit, silent, how, whom):
    address = kit.listener.address if whom == "server" else Address(*silent.getsockname())

    def attempt():
        endpoint.dial(address, kit.client_tls).close()

    kit.dial()[0].close()  # everything that opens once is open
    until(lambda: not kit.listener._carriers)
    before = opened()
    for step in range(40):
        moment = step * 0.0005
        if how == "timeout":
            with gevent.Timeout(moment, False):
                attempt()
        else:
            job = gevent.spawn(attempt)
            job.join(moment)
            job.kill()
    until(lambda: not opened() - before)


def test_a_certificate_that_is_not_accepted_leaves_no_socket(kit):
    kit.dial()[0].close()
    before = opened()
    with pytest.raises(Exception, match="not the pinned one"):
        endpoint.dial(kit.listener.address, PinnedClient(bytes(32)))
    assert not opened() - before
