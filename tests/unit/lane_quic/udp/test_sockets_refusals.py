"""What the kernel says of a QUIC socket is a hint, and what fails in one connection costs no other."""

import errno
import os
import socket as real_socket
import struct

import gevent
import pytest
from gevent import socket
from lane_quic import configuration, endpoint, listener
from lane_quic.plugin import QuicTransport
from lane_quic.runner import NOBODY
from lane_quic.udp import udp

from lane.errors import Closed, Failure, Unreachable
from lane.net import race
from lane.net.connect import Connector
from lane.stream import Address
from lane.testing.harness import Kit, outcome, until
from tests.support.names import Names
from tests.support.quic_endpoints import Relay, exchange, first_flight, odd_version
from tests.support.quic_endpoints import udp as udp_socket

LOOPBACK = Address("127.0.0.1", 0)
UNREACHABLE = 3
"""The type of an ICMP message (RFC 792)."""
FORGED = {"port": 3, "protocol": 2, "host unknown": 7, "too large": 4, "prohibited": 10, "host": 1, "net": 0}
"""Codes of that one."""
REASONS = [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EPERM,
           errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL]  # fmt: skip


def client_of(carrier):
    """The endpoint of a dialled carrier."""
    return carrier._owner


class Failing:
    """A socket or an owner whose calls of `name` fail `times` times with `error`; `failed` counts."""

    def __init__(self, sock, name, error, times):
        self.sock, self.name, self.error, self.left, self.failed = sock, name, error, times, 0

    def __getattr__(self, name):
        return self._fail if name == self.name and self.left > 0 else getattr(self.sock, name)

    def _fail(self, *_):
        self.left -= 1
        self.failed += 1
        raise self.error


def fail(end, name, error, times=1):
    """Have calls of the endpoint's socket fail."""
    sock = getattr(end, "_addresses", [end])[0]._socket
    sock._sock = Failing(sock._sock, name, error, times)
    return sock._sock


# Hints.


def test_a_port_that_is_closed_for_an_instant_costs_nothing(kit):
    relay = Relay(kit.listener.address)
    near = kit.transport.dial(Address("127.0.0.1", relay.port), kit.client_tls)
    far = kit.listener.accept()
    exchange(near, far)
    relay.close_front()
    near.open().sendall(b"is anybody there?")
    until(lambda: near._probed > 0)
    assert not near.closed
    relay.open_front()
    far.accept()
    exchange(near, far)
    near.close()
    relay.close()


def forge(code, source, target, count):
    """Send ICMP messages that say that packets from `source` did not reach `target`, both (host, port)."""
    (from_, here), (to, there) = source, target
    with real_socket.socket(real_socket.AF_INET, real_socket.SOCK_RAW, real_socket.IPPROTO_ICMP) as raw:
        for _ in range(count):
            packet = struct.pack(">BBHHHBBH", 0x45, 0, 1228, 1, 0x4000, 64, real_socket.IPPROTO_UDP, 0)
            packet += real_socket.inet_aton(from_) + real_socket.inet_aton(to)
            packet += struct.pack(">HHHH", here, there, 1208, 0)
            head = struct.pack(">BBHHH", UNREACHABLE, code, 0, 0, 576 if code == FORGED["too large"] else 0)
            total = sum(struct.unpack(f">{(len(head) + len(packet)) // 2}H", head + packet))
            while total >> 16:
                total = (total & 0xFFFF) + (total >> 16)
            head = struct.pack(">BBHHH", UNREACHABLE, code, total ^ 0xFFFF, *struct.unpack(">HH", head[4:]))
            raw.sendto(head + packet, (from_, 0))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may forge ICMP messages")
@pytest.mark.parametrize("code", FORGED.values(), ids=FORGED)
def test_forged_messages_end_no_connection_and_have_little_sent(code, monkeypatch):
    monkeypatch.setattr("lane_quic.runner.PROBE_PAUSE", 1000.0)
    # An address that nothing else uses: the kernel believes "too large" for ten minutes.
    kit = Kit(QuicTransport(), Address("127.0.0.57", 0))
    near, far = kit.dial()
    exchange(near, far)
    sock = client_of(near)._socket._sock
    until(lambda: not near.stats().in_flight)
    probes, probe = [], near.engine.probe
    monkeypatch.setattr(near.engine, "probe", lambda now: probes.append(now) or probe(now))
    for _ in range(20):
        forge(code, sock.getsockname(), sock.getpeername(), 5)
        gevent.sleep(0.001)
    assert len(probes) <= 1
    exchange(near, far)
    assert client_of(near)._socket._sock is sock, "the same port"
    assert not near.closed
    kit.close()


@pytest.mark.parametrize("number", REASONS, ids=map(errno.errorcode.get, REASONS))
@pytest.mark.parametrize("name", ["send", "recvmsg"])
def test_an_established_connection_outlives_errors_of_its_socket(kit, number, name):
    near, far = kit.dial()
    failing = fail(client_of(near), name, OSError(number, os.strerror(number)), 3)
    exchange(near, far)
    assert failing.failed
    assert not near.closed


def test_what_is_refused_for_good_ends_by_time(clock, monkeypatch):
    """As when the server was killed, and is not started again."""
    monkeypatch.setattr(configuration, "IDLE_TIMEOUT", 5)  # each second costs some of real time
    kit = Kit(QuicTransport(), LOOPBACK)
    near, far = kit.dial()
    kit.listener._addresses[0]._socket.close()
    far._owner = NOBODY
    far.fail(Closed("killed"))
    stream = near.open()
    reading = gevent.spawn(outcome, stream.recv)
    stream.sendall(b"are you there?")
    assert "Idle timeout" in str(reading.get())


def test_one_refusal_is_no_answer_to_a_client_that_dials(kit, monkeypatch):
    """The server is started in the moment after it."""
    free = udp_socket()
    address = Address(*free.getsockname())
    free.close()
    heard, found = endpoint.Client._doubt, []

    def start(client):
        found.append(kit.transport.listen(address, kit.server_tls))
        client._ask_again()

    def doubt(client, number):
        heard(client, number)
        gevent.spawn(start, client)

    monkeypatch.setattr(endpoint, "ASK_AGAIN", 1000.0)
    monkeypatch.setattr(endpoint.Client, "_doubt", doubt)
    near = kit.transport.dial(address, kit.client_tls)
    (there,) = found
    exchange(near, there.accept())
    near.close()
    there.close()


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.EPERM])
def test_an_address_that_is_not_reached_twice_leaves_time_for_the_next(kit, number, monkeypatch):
    opened = endpoint.Client._open

    def refuse(client):
        sock = opened(client)
        if client._peer[1][0] == "127.0.0.2":
            sock._sock = Failing(sock._sock, "send", OSError(number, os.strerror(number)), 100)
        return sock

    monkeypatch.setattr(endpoint.Client, "_open", refuse)
    with pytest.raises(Unreachable, match=os.strerror(number)):
        endpoint.dial(Address("127.0.0.2", 9), kit.client_tls)
    monkeypatch.setattr(race, "STAGGER", 1000.0)
    monkeypatch.setattr(endpoint, "_connector", Connector(Names("127.0.0.2", "127.0.0.1")))
    endpoint.dial(Address("two.test", kit.listener.address.port), kit.client_tls).close()


# A listener goes on.


@pytest.mark.parametrize("number", [*REASONS, errno.EIO])
def test_a_listener_outlives_errors_of_its_socket(kit, number):
    near, far = kit.dial()
    for name in ("recvmsg", "sendto", "sendmsg"):
        failing = fail(kit.listener, name, OSError(number, os.strerror(number)), 3)
        exchange(near, far)
        exchange(*kit.dial())
        kit.listener._addresses[0]._socket._sock = failing.sock


def test_a_socket_that_only_fails_is_asked_now_and_then(kit, monkeypatch):
    monkeypatch.setattr(udp, "BACK_OFF", 1000)
    failing = fail(kit.listener, "recvmsg", OSError(errno.ENOMEM, "no memory"), 10**9)
    client = udp_socket()
    client.sendto(b"x", tuple(kit.listener.address))
    until(lambda: failing.failed)
    gevent.sleep(0.05)
    assert failing.failed <= udp.BATCH
    client.close()


def raising(*_, bug=RuntimeError, **__):
    raise bug("a bug")


@pytest.mark.parametrize(
    ("where", "name", "bug"),
    [("_stateless", "reset", RuntimeError), ("_stateless", "negotiation", RuntimeError),
     ("_socket", "_on_datagrams", RuntimeError), ("_socket", "_take_batch", RuntimeError),
     ("_socket", "_hand_out", SystemExit)],
)  # fmt: skip
def test_a_listener_outlives_a_bug(kit, where, name, bug, monkeypatch):
    """`name` fails as long as strangers send, and works again afterwards."""
    near, far = kit.dial()
    calls = []
    stranger = udp_socket()
    with monkeypatch.context() as patch:
        owner = kit.listener._stateless if where == "_stateless" else kit.listener._addresses[0]._socket
        patch.setattr(owner, name, lambda *_, **__: calls.append(1) or raising(bug=bug))
        while not calls:
            for datagram in (b"\x40" + bytes(60), odd_version()):
                stranger.sendto(datagram, tuple(kit.listener.address))
            gevent.sleep(0.001)
    exchange(near, far)
    exchange(*kit.dial())
    stranger.close()


def test_a_datagram_that_makes_something_fail_leaves_the_others_beside_it(kit, monkeypatch):
    route, taken = kit.listener._route, []

    def odd(send, datagram, path, now):
        taken.append(datagram)
        return raising() if datagram[:1] == b"!" else route(send, datagram, path, now)

    monkeypatch.setattr(kit.listener, "_route", odd)
    datagrams, path = [b"!" * 40, b"\x40" + bytes(40)], (("127.0.0.1", 9), ())
    assert kit.listener._addresses[0]._receive(datagrams, path, 0.0) == []
    assert len(taken) == 2


def test_a_socket_that_is_none_any_more_is_replaced(kit):
    near, far = kit.dial()
    exchange(near, far)
    client = client_of(near)
    before = client._socket
    before._sock.close()
    exchange(near, far)
    assert before.closed
    assert client._socket is not before
    exchange(*kit.dial())


def test_a_listener_whose_port_was_taken_meanwhile_comes_back(kit, caplog):
    near, _ = kit.dial()
    broken = kit.listener._addresses[0]._socket
    broken._sock.close()
    taken = udp_socket()
    taken.close()
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(tuple(kit.listener.address))
    near.open().sendall(b"x")
    next(iter(kit.listener._carriers))._ask(0.0)
    until(lambda: "cannot listen on" in caplog.text)
    taken.close()
    until(lambda: kit.listener._addresses[0]._socket is not broken)
    exchange(*kit.dial())


# What fails in a carrier ends it, and only it.


@pytest.mark.parametrize(
    ("entry", "broken"),
    [("_keep_alive", "send_ping"), ("_on_timer", "get_timer"), ("flush", "note_idle"), ("probe", "send_ping"),
     ("shut", "close"), ("flush", "on_cid"), ("_on_timer", "on_silence")],
)  # fmt: skip
def test_a_bug_in_a_carrier_ends_it_and_no_other(kit, entry, broken, monkeypatch, caplog):
    (near, far), other = kit.dial(), kit.dial()
    monkeypatch.setattr("lane_quic.runner.KEEPALIVE", 0.0)
    near.open().sendall(b"!")
    far.accept()
    far.engine._loss.timeouts = 100
    far.engine.get_timer = lambda: 0.0
    far.engine.handle_timer = lambda now: None
    if broken.startswith("on"):
        far._owner = Failing(far._owner, broken, RuntimeError("a bug"), 1)
    else:
        setattr(far.engine, broken, raising)
    if broken == "on_cid":
        near.engine.change_connection_id()
        near.flush()
        until(lambda: far.closed)
    else:
        far.shut("bye") if entry == "shut" else getattr(far, entry)()
    assert far.closed
    assert "the connection with 127.0.0.1 failed" in caplog.text
    assert far not in kit.listener._carriers
    assert not set(far.engine.host_cids) & set(kit.listener._by_cid)
    exchange(*other)


@pytest.mark.parametrize("broken", ["datagrams.fail", "close_trace", "stats"])
def test_a_carrier_ends_whatever_fails_at_its_end(kit, broken, monkeypatch):
    _, far = kit.stream()
    carrier = kit.last[1]
    reading = gevent.spawn(outcome, far.recv)
    gevent.sleep(0)
    where, _, name = f"engine.{broken}".rpartition(".")
    target = carrier
    for part in where.split("."):
        target = getattr(target, part)
    monkeypatch.setattr(target, name, raising, raising=False)
    carrier.fail(Closed("over"))
    assert str(reading.get()) == "over"
    assert carrier not in kit.listener._carriers
    assert not set(carrier.engine.host_cids) & set(kit.listener._by_cid)
    monkeypatch.undo()
    exchange(*kit.dial())


@pytest.mark.parametrize("how", ["nothing", "over"])
def test_slow_handshakes_whose_end_fails_hold_up_nobody(kit, how, monkeypatch):
    stranger = udp_socket()
    for _ in range(3):
        stranger.sendto(first_flight(), tuple(kit.listener.address))
    until(lambda: len(kit.listener._half_open) == 3)
    for slow in kit.listener._half_open:
        if how == "over":
            slow._failure = Failure.of(Closed("it has ended"))
        else:
            slow.fail = lambda error: None
    monkeypatch.setattr(listener, "HANDSHAKE_TIMEOUT", 0.0)
    stranger.sendto(first_flight(), tuple(kit.listener.address))
    until(lambda: len(kit.listener._half_open) <= 1)
    monkeypatch.undo()
    exchange(*kit.dial())
    stranger.close()


def test_a_carrier_that_one_too_many_leaves_nothing(kit, monkeypatch):
    """It ends in the middle of what its last packet brought."""
    monkeypatch.setattr(listener, "MAX_WAITING", 0)
    outcome(endpoint.dial, kit.listener.address, kit.client_tls)
    until(lambda: not kit.listener._carriers)
    assert kit.listener._by_cid == {}
    assert kit.listener._half_open == {}
