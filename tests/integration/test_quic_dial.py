"""Dialling over QUIC: nobody, silence, narrow paths, many addresses, and giving up at any moment."""

import gevent
import pytest
from gevent import socket
from lane_quic import driver
from lane_quic.plugin import QuicTransport
from quic_kit import Relay, descriptors, exchange, udp

from lane.errors import ConfigError, Unreachable
from lane.stream import Address
from lane.testing import PinnedClient
from lane.testing.harness import Kit, until

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
        driver.dial(Address("127.0.0.1", port), kit.client_tls)


def test_silence_is_unreachable_after_large_and_small_datagrams(kit, silent, monkeypatch):
    monkeypatch.setattr(driver, "SMALL_AFTER", 0.05)
    monkeypatch.setattr(driver, "DIAL_TIMEOUT", 0.3)
    with pytest.raises(Unreachable, match="no answer"):
        driver.dial(Address(*silent.getsockname()), kit.client_tls)
    seen = sizes(silent)
    first = seen.index(1200)
    assert set(seen[:first]) == {driver.LARGE_DATAGRAM}
    assert max(seen[first:]) == 1200


@pytest.mark.parametrize("narrow", [{True}, {False}, {True, False}], ids=["up", "down", "both"])
def test_a_path_that_drops_large_datagrams(kit, relay, monkeypatch, narrow):
    monkeypatch.setattr(driver, "SMALL_AFTER", 0.2)
    relay.harm = lambda datagram, up: [] if up in narrow and len(datagram) > 1300 else [datagram]
    near = driver.dial(Address("127.0.0.1", relay.port), kit.client_tls)
    assert near.engine.configuration.max_datagram_size == 1200
    far = kit.listener.accept()
    while far.closed:  # of an attempt that was given up
        far = kit.listener.accept()
    exchange(near, far)
    near.close()


def test_a_path_that_carries_large_datagrams_gets_them(kit):
    near, far = kit.dial()
    assert near.engine.configuration.max_datagram_size == driver.LARGE_DATAGRAM
    assert far.engine.configuration.max_datagram_size == driver.LARGE_DATAGRAM


def test_garbage_is_no_answer(kit, silent, monkeypatch):
    """Whoever answers with noise does not keep a client from trying small datagrams."""
    monkeypatch.setattr(driver, "SMALL_AFTER", 0.1)
    monkeypatch.setattr(driver, "DIAL_TIMEOUT", 0.4)

    def babble():
        while True:
            _, client = silent.recvfrom(65536)
            for noise in (b"\x40", b"\xc0" + bytes(40), b"\x40" + bytes(60), b"\xff" * 1200):
                silent.sendto(noise, client)

    babbling = gevent.spawn(babble)
    tried = []
    real = driver.client_configuration
    monkeypatch.setattr(driver, "client_configuration", lambda *args: tried.append(args[1]) or real(*args))
    with pytest.raises(Unreachable, match="no answer"):
        driver.dial(Address(*silent.getsockname()), kit.client_tls)
    babbling.kill()
    assert tried == [driver.LARGE_DATAGRAM, driver.SMALL_DATAGRAM]


def test_an_address_that_is_silent_leaves_time_for_the_next(kit, silent, monkeypatch):
    monkeypatch.setattr(driver, "SMALL_AFTER", 0.1)
    both = [(socket.AF_INET, None, None, "", silent.getsockname()),
            (socket.AF_INET, None, None, "", tuple(kit.listener.address))]  # fmt: skip
    monkeypatch.setattr(driver.gsocket, "getaddrinfo", lambda *args, **options: both)
    near = driver.dial(Address("two.test", 1), kit.client_tls)
    exchange(near, kit.listener.accept())
    near.close()


def test_looking_up_a_name_counts_as_dialling(kit, monkeypatch):
    monkeypatch.setattr(driver, "DIAL_TIMEOUT", 0.05)
    monkeypatch.setattr(driver.gsocket, "getaddrinfo", lambda *args, **options: gevent.sleep(1000))
    with pytest.raises(Unreachable, match="no answer"):
        driver.dial(Address("slow.test", 1), kit.client_tls)


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "name.invalid", "..", "1.2.3.4.5"])
def test_names_that_are_none(kit, host, monkeypatch):
    def look_up(name, *_, **__):  # as the C library does, without asking the network
        name.encode("idna")
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(driver.gsocket, "getaddrinfo", look_up)
    with pytest.raises(Unreachable) as caught:
        driver.dial(Address(host, 1), kit.client_tls)
    assert "\n" not in str(caught.value)


def test_addresses_that_can_not_be_reached(kit):
    with pytest.raises(Unreachable, match=r"unreachable|[Ii]nvalid|denied"):
        driver.dial(Address("255.255.255.255", 1), kit.client_tls)


def test_server_names_are_sent_as_sni_has_them(kit):
    tls = PinnedClient(kit.server_tls.binding, "b\u00fccher.test")
    near = driver.dial(kit.listener.address, tls)
    assert near.engine.configuration.server_name == "xn--bcher-kva.test"
    near.close()
    before = descriptors()
    with pytest.raises(ConfigError, match="is no name of a server"):
        driver.dial(kit.listener.address, PinnedClient(kit.server_tls.binding, "a" * 64 + ".test"))
    assert descriptors() == before


@pytest.mark.parametrize("how", ["timeout", "kill"])
@pytest.mark.parametrize("whom", ["server", "silence"])
def test_giving_up_at_any_moment_leaves_no_socket(kit, silent, how, whom):
    address = kit.listener.address if whom == "server" else Address(*silent.getsockname())

    def attempt():
        driver.dial(address, kit.client_tls).close()

    kit.dial()[0].close()  # everything that opens once is open
    until(lambda: not kit.listener._carriers)
    before = descriptors()
    for step in range(40):
        moment = step * 0.0005
        if how == "timeout":
            with gevent.Timeout(moment, False):
                attempt()
        else:
            job = gevent.spawn(attempt)
            job.join(moment)
            job.kill()
    until(lambda: descriptors() == before)


def test_a_certificate_that_is_not_accepted_leaves_no_socket(kit):
    kit.dial()[0].close()
    before = descriptors()
    with pytest.raises(Exception, match="not the pinned one"):
        driver.dial(kit.listener.address, PinnedClient(bytes(32)))
    assert descriptors() == before
