"""Many connections on one QUIC socket: addresses, fairness, time-outs, full sockets, and what is left."""

import errno
import gc
import socket as real_socket
import time
from itertools import pairwise

import gevent
import pytest
from lane_quic import configuration, endpoint, runner
from lane_quic.carrier import QuicCarrier
from lane_quic.plugin import QuicTransport, lane_register_transports
from lane_quic.udp import udp

from lane.errors import Closed, ConfigError
from lane.net import listen as net_listen
from lane.net.path_memory import PATHS
from lane.stream import Address
from lane.testing.harness import Flood, Kit, echo, outcome, pattern, read_all, send_all, until
from tests.support.names import Names
from tests.support.quic_endpoints import Relay, exchange
from tests.support.virtual_time import virtual_time

LOOPBACK = Address("127.0.0.1", 0)


@pytest.fixture
def short_lived(monkeypatch):
    """Connections that die of 3 s of silence, in virtual time; the kit that is made after this has them."""
    monkeypatch.setattr(configuration, "IDLE_TIMEOUT", 3.0)
    monkeypatch.setattr(runner, "KEEPALIVE", 1.0)
    with virtual_time(patience=0.02):
        yield


@pytest.fixture
def long_lived(monkeypatch):
    """Connections that wait as long as a busy machine takes; the kit that is made after this has them."""
    monkeypatch.setattr(configuration, "IDLE_TIMEOUT", 300.0)


@pytest.mark.parametrize(
    ("bound", "dialled"),
    [("", "127.0.0.1"), ("", "127.0.0.2"), ("", "::1"), ("0.0.0.0", "127.0.0.3"), ("::", "::1"),
     ("::", "127.0.0.2"), ("::1", "::1")],
)  # fmt: skip
def test_answers_leave_from_the_address_that_was_dialled(bound, dialled):
    """Clients have connected sockets: an answer from another address would never arrive."""
    if ":" in bound + dialled and not real_socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    transport = QuicTransport()
    kit = Kit(transport, Address(bound, 0))
    near = transport.dial(Address(dialled, kit.listener.address.port), kit.client_tls)
    far = kit.listener.accept()
    assert far.peer in ("127.0.0.1", "::1", dialled)
    exchange(near, far)
    near.close()
    kit.close()


def test_a_name_is_listened_on_at_all_its_addresses(monkeypatch):
    """And what comes to one of them is answered from there."""
    monkeypatch.setattr(net_listen, "system_resolver", lambda: Names("127.0.0.2", "127.0.0.1"))
    transport = QuicTransport()
    kit = Kit(transport, Address("name.test", 0))
    for host in ("127.0.0.1", "127.0.0.2"):
        near = transport.dial(Address(host, kit.listener.address.port), kit.client_tls)
        exchange(near, kit.listener.accept())
        near.close()
    kit.close()
    until(lambda: all(one._socket.closed for one in kit.listener._addresses))


def test_the_transport_is_registered_under_its_name():
    registered = []
    lane_register_transports(registered.append)
    assert [transport.name for transport in registered] == ["quic"]


def test_a_port_in_use_and_a_name_that_is_none_are_one_line(kit):
    for address in (kit.listener.address, Address("192.0.2.1", 0)):
        with pytest.raises(ConfigError, match="cannot listen on") as caught:
            QuicTransport().listen(address, kit.server_tls)
        assert "\n" not in str(caught.value)


@pytest.mark.bulk
def test_a_hundred_clients_on_one_socket(long_lived, kit):
    kit.serve(echo)
    clients = [kit.transport.dial(kit.listener.address, kit.client_tls) for _ in range(100)]

    def run(near, data):
        stream = near.open()
        sending = gevent.spawn(send_all, stream, data)
        assert read_all(stream) == data
        sending.get()

    data = [pattern(10_000, number) for number in range(100)]
    jobs = [gevent.spawn(run, *pair) for pair in zip(clients, data, strict=True)]
    gevent.joinall(jobs, raise_error=True)
    for near in clients:
        near.close()


def test_connection_ids_that_are_issued_and_retired_are_routed(kit):
    near, far = kit.dial()
    first = far.engine.host_cids[0]
    for _ in range(20):
        near.engine.change_connection_id()
        exchange(near, far, 2000)
    until(lambda: first not in far.engine.host_cids)
    assert first not in kit.listener._by_cid
    assert set(far.engine.host_cids) <= set(kit.listener._by_cid)
    assert len(kit.listener._by_cid) <= 8 + 1, "what is in use, and the client's own first one"


def test_a_client_that_comes_from_another_port_goes_on(kit):
    relay = Relay(kit.listener.address)
    near = kit.transport.dial(Address("127.0.0.1", relay.port), kit.client_tls)
    far = kit.listener.accept()
    for _ in range(3):
        exchange(near, far)
        relay.rebind()
    stream = near.open()
    stream.sendall(b"!")
    other = far.accept()
    sending = gevent.spawn(send_all, other, pattern(500_000))
    received = stream.recv()
    relay.rebind()
    stream.sendall(b"I am here now")
    assert received + read_all(stream) == pattern(500_000)
    sending.get()
    near.close()
    relay.close()


@pytest.mark.parametrize("who", ["up", "down"])
def test_a_client_whose_address_is_dead_goes_on_from_another(kit, who):
    """As when an address is gone, or a NAT has forgotten the port: nothing passes from there or to there."""
    relay = Relay(kit.listener.address)
    near = kit.transport.dial(Address("127.0.0.1", relay.port), kit.client_tls)
    far = kit.listener.accept()
    exchange(near, far)
    before, window = relay._client, far.engine._loss.controller
    relay.harm = lambda datagram, up: [datagram] if relay._client != before or up != (who == "up") else []
    exchange(near, far, 500_000)
    assert relay._client != before
    relay.rebind()
    relay.harm = lambda datagram, up: [datagram]
    exchange(near, far)
    assert far.engine._loss.controller is not window, "another path: nothing is known of its rate"
    assert far.engine._network_paths[0].is_validated
    near.close()
    relay.close()


def test_silence_makes_a_client_move_more_and_more_seldom(kit, monkeypatch):
    monkeypatch.setattr(endpoint, "MOVE_AFTER", 0.1)
    near, _ = kit.dial()
    client, moves = near._owner, []
    opened = client._open
    monkeypatch.setattr(client, "_open", lambda: moves.append(time.monotonic()) or opened())
    kit.listener._addresses[0]._socket._on_datagrams = lambda *_: []
    near.open().sendall(b"anybody?")
    until(lambda: len(moves) == 4)
    for number, (before, after) in enumerate(pairwise(moves)):
        assert after - before >= 0.1 * 2**number
    assert not near.closed


def test_bulk_leaves_others_their_turn(kit):
    """Turns are measured by what moves between two of them, which does not depend on the machine."""
    near, far = kit.stream()
    size, read, turns = 12 << 20, 0, []

    def tick():
        while True:
            gevent.sleep(0.001)
            turns.append(read)

    ticking = gevent.spawn(tick)
    sending = gevent.spawn(send_all, near, bytes(size))
    while data := far.recv():
        read += len(data)
    sending.get()
    ticking.kill()
    assert read == size
    assert max(after - before for before, after in pairwise([0, *turns, size])) < size / 8


def test_waiting_costs_nothing(kit, monkeypatch):
    pairs = [kit.stream() for _ in range(40)]
    flood = Flood(pairs[0][0])
    flood.wait_until_blocked()
    flushes, flush = [], QuicCarrier.flush
    monkeypatch.setattr(QuicCarrier, "flush", lambda carrier: flushes.append(1) or flush(carrier))
    gevent.sleep(1)
    assert len(flushes) < 4 * len(pairs)  # of twice as many carriers, each with its keepalives and late ACKs
    assert not flood.failure.ready()


def test_open_streams_keep_a_connection_alive(short_lived, kit):
    near, far = kit.stream()
    gevent.sleep(3 * configuration.IDLE_TIMEOUT)
    near.sendall(b"still there")
    assert far.recv() == b"still there"


def test_an_idle_connection_ends(short_lived, kit):
    near, far = kit.dial()
    accepting = gevent.spawn(outcome, far.accept)
    gevent.sleep(2 * configuration.IDLE_TIMEOUT)
    assert near.closed
    assert far.closed
    assert isinstance(accepting.get(), Closed)
    assert "Idle timeout" in str(near.error)
    with pytest.raises(Closed):
        near.open()
    until(lambda: not kit.listener._carriers)


def test_a_dead_peer_ends_a_connection_with_open_streams(short_lived, kit):
    relay = Relay(kit.listener.address)
    near = kit.transport.dial(Address("127.0.0.1", relay.port), kit.client_tls)
    stream = near.open()
    reading = gevent.spawn(outcome, stream.recv)
    relay.harm = lambda datagram, up: []
    assert isinstance(reading.get(), Closed), "and never an end of data"
    assert near.closed
    relay.close()


def test_a_full_socket_delays_and_loses_nothing(kit, monkeypatch):
    real, calls = udp.QuicSocket._send, []

    def often_full(self, datagrams):
        calls.append(None)
        return len(calls) % 3 == 0 and real(self, datagrams)

    monkeypatch.setattr(udp.QuicSocket, "_send", often_full)
    near, far = kit.dial()
    exchange(near, far, 300_000)
    assert near.stats().loss < 0.1


def test_what_waits_for_a_full_socket_is_bounded_and_in_order():
    first, second = (real_socket.socket(real_socket.AF_INET, real_socket.SOCK_DGRAM) for _ in range(2))
    second.bind(("127.0.0.1", 0))
    first.connect(second.getsockname())
    sock = udp.QuicSocket(first, lambda *_: [])
    sock._send = lambda datagrams: False
    path = (None, None)
    sock.send([(b"%d" % number, path) for number in range(10)])
    for _ in range(3):
        sock.send([(b"more", path)] * udp.BACKLOG)
    assert len(sock._backlog) == udp.BACKLOG
    assert [data for data, _ in list(sock._backlog)[:10]] == [b"%d" % number for number in range(10)]
    del sock._send
    until(lambda: not sock._backlog)
    assert [second.recv(10) for _ in range(10)] == [b"%d" % number for number in range(10)]
    sock.close()
    sock.close()
    second.close()


def test_closing_waits_for_data_and_not_for_ever(kit):
    near, far = kit.dial()
    stream = near.open()
    stream.sendall(bytes(100_000))
    stream.finish()
    other = far.accept()
    near.close(0.3)  # nobody reads: 64 KB is what the server takes
    assert near.closed
    assert isinstance(outcome(stream.recv), Closed)
    until(lambda: far.closed)
    with pytest.raises(Closed):
        read_all(other)


def test_nothing_is_left_of_connections_that_ended(kit):
    gc.collect()
    alive = sum(isinstance(thing, (QuicCarrier, gevent.Greenlet)) for thing in gc.get_objects())
    tables = (kit.listener._by_cid, kit.listener._carriers, kit.listener._half_open)
    for number in range(300):
        near = endpoint.dial(kit.listener.address, kit.client_tls)
        far = kit.listener.accept()
        if number % 3 == 0:
            near.open().sendall(b"x")
            far.accept()
        (near, far)[number % 2].close()
        until(lambda near=near, far=far: near.closed and far.closed)
        near = far = None
    until(lambda: not any(tables))

    def left():
        gc.collect()
        return sum(isinstance(thing, (QuicCarrier, gevent.Greenlet)) for thing in gc.get_objects()) - alive

    until(lambda: left() <= 2)


def test_a_closed_listener_sends_away_what_nobody_accepted(kit):
    near = kit.transport.dial(kit.listener.address, kit.client_tls)
    until(kit.listener._waiting.qsize)
    kit.listener.close()
    kit.listener.close()
    until(lambda: near.closed)
    assert "the server is closing" in str(near.error)
    for _ in range(2):
        with pytest.raises(Closed):
            kit.listener.accept()
    until(lambda: kit.listener._addresses[0]._socket.closed)


def test_what_a_socket_says_of_a_packet_is_loss_and_of_its_peer_a_hint():
    """A datagram that is too large, or a network that is down, is loss: a network does that, too."""
    first, second = (real_socket.socket(real_socket.AF_INET, real_socket.SOCK_DGRAM) for _ in range(2))
    second.bind(("127.0.0.1", 0))
    came, hints = [], []
    sock = udp.QuicSocket(first, lambda data, path, now: came.extend(data) or [], on_hint=hints.append)
    there = (second.getsockname(), ())
    sock.send([(bytes(100_000), there), (b"after", there)])
    assert second.recv(10) == b"after"
    gevent.sleep(0.01)
    assert hints == []
    sock.send([(b"x", (("255.255.255.255", 1), ()))])
    until(lambda: hints)
    assert hints.pop() == errno.EACCES
    first.connect(address := second.getsockname())
    second.close()
    sock.send([(b"anybody?", (None, None))])
    until(lambda: hints)
    assert hints[0] == errno.ECONNREFUSED
    second = real_socket.socket(real_socket.AF_INET, real_socket.SOCK_DGRAM)
    second.bind(address)
    second.sendto(b"I am", first.getsockname())
    until(lambda: came == [b"I am"])
    sock.close()
    second.close()


def test_both_ends_begin_with_what_is_known_of_the_path_to_the_other_one():
    PATHS.to("127.0.0.1").learn(1e9, 0.001, 0.0)
    kit = Kit(QuicTransport(), LOOPBACK)
    for end in kit.dial():
        path = end.engine.known_path(end.engine.network_paths[0].addr)
        assert path.figures is PATHS.to("127.0.0.1").figures
        assert end.engine.loss.controller._path is not None
    kit.close()
