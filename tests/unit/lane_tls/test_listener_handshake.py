"""TLS connections being made: against other TLS stacks, garbage, silence and hang-ups, on either side."""

import logging
import socket as native
import ssl
import struct

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from lane_tls import listener as listener_module
from lane_tls.plugin import TLSTransport, lane_register_transports

from lane.errors import ConfigError, Refused, Unreachable
from lane.net import listen as net_listen
from lane.net.connect import Connector
from lane.stream import Address
from lane.testing import PinnedClient, SelfSigned, client_tls, server_tls
from lane.testing.harness import outcome, until
from tests.support.names import Names
from tests.support.tls_peer import (
    CLIENT,
    IDENTITY,
    LOOPBACK,
    Foreign,
    foreign_client,
    foreign_context,
    foreign_server_context,
)

# --- as a server


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)],
)
def test_alpn(listener, offered, chosen):
    foreign = foreign_client(listener, alpn=offered)
    assert (foreign.tls.selected_alpn_protocol(), foreign.tls.version()) == (chosen, "TLSv1.3")
    foreign.abort()


def test_older_tls_is_told_so(listener, caplog):
    caplog.set_level(logging.DEBUG, "lane.tls")
    context = foreign_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(listener.address) as sock, pytest.raises(ssl.SSLError, match="ALERT"):
        Foreign(sock, context)
    until(lambda: "no handshake with 127.0.0.1: " in caplog.text)
    TLSTransport().dial(listener.address, CLIENT).close()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 600, b""])
def test_a_bad_peer_costs_only_its_connection(listener, garbage):
    with socket.create_connection(listener.address) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        try:
            while sock.recv(1000):
                pass
        except ConnectionResetError:
            pass
    carrier, accepted = TLSTransport().dial(listener.address, CLIENT), listener.accept()
    assert accepted.binding == carrier.binding
    carrier.close()
    accepted.close()


def test_a_peer_that_vanishes_before_the_handshake(listener):
    sock = socket.create_connection(listener.address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    TLSTransport().dial(listener.address, CLIENT).close()


def test_a_silent_peer_is_dropped_at_the_deadline():
    listener = TLSTransport(deadline=0.05).listen(LOOPBACK, IDENTITY)
    with socket.create_connection(listener.address) as sock:
        assert sock.recv(1) == b""
    listener.close()


def test_a_peer_that_says_nothing_has_less_time(monkeypatch):
    monkeypatch.setattr(listener_module, "FIRST_BYTE", 0.05)
    listener = TLSTransport(deadline=600.0).listen(LOOPBACK, IDENTITY)
    with socket.create_connection(listener.address) as sock:
        assert sock.recv(1) == b""
    listener.close()


@pytest.mark.parametrize("said", [b"", b"\x16"])
def test_an_address_that_takes_all_places_loses_them(listener, said):
    """The others connect at once, however many connections one address makes."""
    crowd = []
    for _ in range(listener_module._HANDSHAKES + 20):
        crowd.append(socket.create_connection(listener.address, source_address=("127.0.0.2", 0)))
        crowd[-1].sendall(said)
    until(lambda: len(listener._shaking) == listener_module._HANDSHAKES)
    with socket.create_connection(listener.address) as early:  # it is half-way when more of them come
        until(lambda: listener._shaking.oldest_of("127.0.0.1"))
        crowd += [
            socket.create_connection(listener.address, source_address=("127.0.0.2", 0)) for _ in range(20)
        ]
        with gevent.Timeout(20):
            for sock in crowd[:20]:  # whoever came first has lost his place
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)
            assert listener._shaking.oldest_of("127.0.0.1")
            Foreign(early, foreign_context())
            TLSTransport().dial(listener.address, CLIENT).close()
    assert len(listener._shaking) <= listener_module._HANDSHAKES
    for sock in crowd:
        sock.close()


def test_closing_a_listener_drops_handshakes_and_what_nobody_accepted(listener):
    silent = socket.create_connection(listener.address)
    done = foreign_client(listener)
    until(lambda: not listener._ready.empty() and len(listener._shaking))
    listener.close()
    for sock in (silent, done.sock):
        with pytest.raises(ConnectionResetError):
            while sock.recv(1000):
                pass
        sock.close()


@pytest.mark.parametrize(
    "identity",
    [
        SelfSigned(b"no PEM", IDENTITY.key_pem, bytes(32)),
        SelfSigned(IDENTITY.chain_pem, b"no PEM", bytes(32)),
        SelfSigned(IDENTITY.chain_pem, server_tls().key_pem, bytes(32)),
    ],
)
def test_an_unusable_certificate_is_a_configuration_error(identity):
    with pytest.raises(ConfigError, match="certificate"):
        TLSTransport().listen(LOOPBACK, identity)


@pytest.mark.parametrize("host", ["192.0.2.1", "x" * 64 + ".invalid"])
def test_where_nobody_can_listen(host):
    with pytest.raises(ConfigError, match=f"cannot listen on {host}"):
        TLSTransport().listen(Address(host, 0), IDENTITY)


@pytest.mark.parametrize(
    ("host", "reached"),
    [("name.test", ["127.0.0.1", "127.0.0.2"]), ("", ["127.0.0.1", "::1"]), ("::", ["127.0.0.1", "::1"])],
)
def test_all_addresses_of_a_listener(monkeypatch, host, reached):
    monkeypatch.setattr(net_listen, "system_resolver", lambda: Names("127.0.0.2", "127.0.0.1"))
    listener = TLSTransport().listen(Address(host, 0), IDENTITY)
    for address in reached:
        near = TLSTransport().dial(Address(address, listener.address.port), CLIENT)
        listener.accept().close()
        near.close()
    listener.close()
    gone = [Address(address, listener.address.port) for address in reached]
    until(lambda: all("refused" in str(outcome(TLSTransport().dial, where, CLIENT)) for where in gone))


# --- as a client


@pytest.fixture
def plain_server():
    """A listening socket that knows no TLS, and its address."""
    with socket.socket() as server:
        server.bind(LOOPBACK)
        server.listen()
        yield server, Address(*server.getsockname())


@pytest.fixture
def answering(plain_server):
    """Start a server that handles its one connection with a function; gives its address."""
    server, address = plain_server
    greenlets = []

    def start(handle):
        def run():
            sock, _ = server.accept()
            with sock:
                handle(sock)

        greenlets.append(gevent.spawn(run))
        return address

    yield start
    gevent.killall(greenlets)


def test_a_server_that_is_no_tls(answering):
    address = answering(lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.9\r\n" * 20) or sock.recv(10000))
    with pytest.raises(Refused, match=rf"127.0.0.1:{address.port} does not speak TLS 1.3 with us: "):
        TLSTransport().dial(address, CLIENT)


def test_a_server_with_older_tls(answering, tmp_path):
    context = foreign_server_context(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def handle(sock):
        with pytest.raises(ssl.SSLError):
            Foreign(sock, context, server_side=True)

    with pytest.raises(Refused):
        TLSTransport().dial(answering(handle), CLIENT)


def test_a_server_that_hangs_up(answering):
    with pytest.raises(Unreachable, match="hung up"):
        TLSTransport().dial(answering(lambda sock: sock.recv(10000)), CLIENT)


def test_a_server_that_says_nothing(plain_server):
    _, address = plain_server
    with pytest.raises(Unreachable, match=r"did not answer in 0.05 seconds"):
        TLSTransport(deadline=0.05).dial(address, CLIENT)


def test_a_deadline_of_the_caller_is_left_alone(plain_server):
    _, address = plain_server
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.05) as mine:
        TLSTransport().dial(address, CLIENT)
    assert caught.value is mine


@pytest.mark.parametrize("name", ["server.test", "xn--bcher-kva.test", None])
def test_the_name_of_the_server_is_sent_or_not(answering, tmp_path, name):
    context = foreign_server_context(tmp_path)
    seen, done = [], Event()
    context.sni_callback = lambda _, name, __: seen.append(name)

    def handle(sock):
        Foreign(sock, context, server_side=True)
        done.wait()

    carrier = TLSTransport().dial(answering(handle), PinnedClient(CLIENT.pin, name))
    done.set()
    carrier.close()
    assert seen == [name]


def test_the_whole_chain_is_judged_leaf_first(listener):
    other = server_tls()
    chained = SelfSigned(IDENTITY.chain_pem + other.chain_pem, IDENTITY.key_pem, IDENTITY.binding)
    second = TLSTransport().listen(LOOPBACK, chained)
    seen = []

    class Judge:
        server_name = None

        def verify(self, chain):
            seen.extend(ssl.DER_cert_to_PEM_cert(one).encode() for one in chain)
            return IDENTITY.binding

    TLSTransport().dial(second.address, Judge()).close()
    second.close()
    assert b"".join(seen) == chained.chain_pem


def test_nothing_is_sent_to_a_server_that_was_refused(answering, tmp_path):
    received = []

    def handle(sock):
        try:
            received.append(Foreign(sock, foreign_server_context(tmp_path), server_side=True).recv())
        except OSError as error:
            received.append(type(error))

    address = answering(handle)
    with pytest.raises(Refused):
        TLSTransport().dial(address, client_tls(server_tls()))
    until(lambda: received)
    assert received == [ConnectionResetError]


@pytest.fixture
def called(monkeypatch):
    """A transport for which each name has the addresses that it is called with."""

    def make(*found):
        transport = TLSTransport()
        monkeypatch.setattr(transport, "connect", Connector(Names(*found)).connect)
        return transport

    return make


def test_every_address_of_a_name_is_tried(listener, called):
    carrier = called("127.0.0.2", "127.0.0.1").dial(Address("server.test", listener.address.port), CLIENT)
    assert carrier.peer == "127.0.0.1"
    carrier.close()


def test_a_name_that_does_not_exist(called):
    with pytest.raises(Unreachable, match=r"cannot look up nowhere\.test: name not known"):
        called().dial(Address("nowhere.test", 443), CLIENT)


def test_a_deadline_while_connecting_leaves_no_socket(monkeypatch):
    def connect(self, address):
        raise gevent.Timeout

    monkeypatch.setattr(native.socket, "connect_ex", connect)
    with pytest.raises(gevent.Timeout):
        TLSTransport().dial(Address("127.0.0.1", 1), CLIENT)


def test_it_registers_as_a_plugin():
    found = []
    lane_register_transports(found.append)
    assert [transport.name for transport in found] == ["tls"]
