"""Peers and strangers that mean harm to a QUIC listener: each costs itself, and no more than a bound."""

import logging
import random

import gevent
import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_quic_header
from lane_quic import configuration, endpoint, listener, streams
from lane_quic.configuration import Settings, reset_token
from lane_quic.listener import QuicListener
from lane_quic.plugin import QuicTransport
from lane_quic.runner import NOBODY

from lane.errors import Closed, Unreachable
from lane.stream import Address
from lane.testing import client_tls, server_tls
from lane.testing.harness import Kit, outcome, settled, until
from tests.support.quic_endpoints import Relay, answers, exchange, first_flight, odd_version, udp

LOOPBACK = Address("127.0.0.1", 0)


@pytest.fixture
def stranger():
    sock = udp()
    sock.settimeout(10)
    yield sock
    sock.close()


@pytest.fixture
def quiet(kit):
    """Both ends of a stream, with nothing under way."""
    near, far = kit.stream()

    def busy(end):
        return end.stats().in_flight or end.engine.space.ack_at

    until(lambda: not any(map(busy, kit.last)))
    return near, far


def die(listener):
    """End a listener as a killed process would: without a word."""
    listener._addresses[0]._socket.close()
    for ended in list(listener._carriers):
        ended._owner = NOBODY
        ended.fail(Closed("killed"))


def test_a_client_of_a_restarted_server_learns_it_at_its_next_packet(kit, quiet):
    reading = gevent.spawn(outcome, quiet[0].recv)
    near = kit.last[0]
    die(kit.listener)
    again = QuicListener(kit.listener.address, kit.server_tls)
    quiet[0].sendall(b"are you there?")
    assert "restarted" in str(reading.get())
    assert isinstance(reading.value, Closed)
    assert near.closed
    assert isinstance(outcome(quiet[0].sendall, b"x"), Closed)
    again.close()


def test_another_server_can_not_end_a_connection(kit, quiet, monkeypatch):
    near = kit.last[0]
    real, verdicts = near.engine.is_stateless_reset, []

    def judge(datagram):
        verdicts.append(real(datagram))
        return verdicts[-1]

    monkeypatch.setattr(near.engine, "is_stateless_reset", judge)
    die(kit.listener)
    other = QuicListener(kit.listener.address, server_tls())
    quiet[0].sendall(b"are you there?")
    until(lambda: len(verdicts) >= 2)
    assert not any(verdicts)
    assert not near.closed
    near.close()
    other.close()


def test_resets_that_are_forged_and_one_that_is_not(kit, quiet):
    near, far = kit.last
    path = far.engine.get_peer_address()
    cid = far.engine.host_cids[0]
    for token in (bytes(16), reset_token(b"no key", cid), b""):
        kit.listener._addresses[0].send([(b"\x40" + bytes(30) + token, path), (token, path)])
    exchange(near, far)
    kit.listener._addresses[0].send([(b"\x40" + bytes(30) + reset_token(kit.listener._state_key, cid), path)])
    until(lambda: near.closed)


def test_resets_are_shorter_than_what_they_answer(kit, stranger):
    for size in (*range(1, 60), 1200, 1452):
        stranger.sendto(b"\x40" + bytes(size - 1), tuple(kit.listener.address))
        found = answers(stranger, kit.listener.address)
        assert [len(answer) for answer in found] == ([] if size < 22 else [min(size - 1, 43)])
        assert all(answer[0] & 0xC0 == 0x40 for answer in found)


def test_two_listeners_do_not_answer_each_other_for_ever(kit, monkeypatch):
    other = QuicListener(LOOPBACK, server_tls())
    real, taken = QuicListener._route, []

    def counted(self, send, datagram, path, now):
        # Not what strays send to the owner of a port before.
        if tuple(path[0][:2]) in (tuple(kit.listener.address), tuple(other.address)):
            taken.append(datagram)
        return real(self, send, datagram, path, now)

    monkeypatch.setattr(QuicListener, "_route", counted)
    kit.listener._addresses[0].send([(b"\x40" + bytes(1199), (tuple(other.address), ()))])
    kit.listener._addresses[0].send([(odd_version(), (tuple(other.address), ()))])
    until(lambda: len(taken) >= 3)
    assert settled(lambda: len(taken)) <= 26
    other.close()


def test_an_unknown_version_is_answered_and_costs_no_state(kit, stranger):
    stranger.sendto(odd_version(), tuple(kit.listener.address))
    header = pull_quic_header(Buffer(data=stranger.recv(2000)), host_cid_length=8)
    assert (header.destination_cid, header.source_cid) == (b"from", b"clientID")
    assert 1 in header.supported_versions
    stranger.sendto(b"\xc0" + bytes(4) + odd_version()[5:], tuple(kit.listener.address))
    stranger.sendto(odd_version(1199), tuple(kit.listener.address))
    assert answers(stranger, kit.listener.address) == [], "neither an answer nor a short question has one"
    assert kit.listener._by_cid == {}


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\xc0",
        b"\xc0" + bytes(20),
        bytes(1200),
        b"\xff" * 1200,
        b"\xc0\0\0\0\1\x08" + bytes(1300),
        b"\xf0" + first_flight()[1:],
        first_flight()[:1199],
        first_flight(800),
        bytes(byte ^ (at == 100) for at, byte in enumerate(first_flight())),
    ],
    ids=range(10),
)
def test_what_is_no_first_datagram_costs_no_state(kit, stranger, datagram):
    stranger.sendto(datagram, tuple(kit.listener.address))
    found = answers(stranger, kit.listener.address)
    assert sum(map(len, found)) <= len(datagram)
    until(lambda: not len(kit.listener._queue))
    assert kit.listener._by_cid == {}
    assert not kit.listener._half_open
    assert not kit.listener._carriers
    exchange(*kit.dial())


def test_handshakes_that_stay_half_open_are_bounded_and_end(clock, monkeypatch, stranger):
    monkeypatch.setattr(listener, "MAX_HALF_OPEN", 5)
    monkeypatch.setattr(configuration, "IDLE_TIMEOUT", 3.0)
    kit = Kit(QuicTransport(), LOOPBACK)
    full, received = kit.listener, []
    for _ in range(20):
        stranger.sendto(first_flight(), tuple(full.address))
    received += answers(stranger, full.address)
    until(lambda: not len(full._queue))
    assert len(full._half_open) == 5
    gevent.sleep(2 * configuration.IDLE_TIMEOUT)
    assert not full._half_open
    assert full._by_cid == {}
    assert full._carriers == {}
    received += answers(stranger, full.address)
    assert 5 * 1200 < sum(map(len, received)) <= 20 * 3 * 1200, "three times of what it got, to each"
    exchange(*kit.dial())
    kit.close()


def test_an_address_that_takes_all_places_loses_them(monkeypatch):
    """Half-way handshakes of others stay, and others connect, however many one address begins."""
    monkeypatch.setattr(listener, "MAX_HALF_OPEN", 5)
    kit = Kit(QuicTransport(), LOOPBACK)
    with udp() as other, udp("127.0.0.2") as crowd:
        other.sendto(first_flight(), tuple(kit.listener.address))
        until(lambda: len(kit.listener._half_open) == 1)
        (half_way,) = kit.listener._half_open
        for _ in range(20):
            crowd.sendto(first_flight(), tuple(kit.listener.address))
        until(lambda: len(kit.listener._half_open) == 5)
        exchange(*kit.dial())
        assert half_way in kit.listener._half_open
        assert sum(carrier.peer == "127.0.0.2" for carrier in kit.listener._half_open) in (3, 4)
        assert len(kit.listener._places) == len(kit.listener._half_open)
    kit.close()


def test_beyond_some_handshakes_a_client_shows_first_that_its_address_is_its_own(monkeypatch, kit, stranger):
    monkeypatch.setattr(listener, "RETRY_ABOVE", 3)
    for _ in range(10):
        stranger.sendto(first_flight(), tuple(kit.listener.address))
    received = answers(stranger, kit.listener.address)
    until(lambda: not len(kit.listener._queue))
    assert len(kit.listener._half_open) == 3
    retries = [data for data in received if data[0] & 0xF0 == 0xF0]
    assert len(retries) == 7
    assert max(map(len, retries)) < 200
    near, far = kit.dial()
    exchange(near, far)
    assert near.engine._retry_count == 1
    assert len(kit.listener._half_open) == 3


def test_clients_are_strangers_until_they_have_proven_a_key_or_are_gone(kit):
    pairs = [kit.dial() for _ in range(3)]
    strangers = kit.listener._strangers
    assert strangers.count_of("127.0.0.1") == 3
    pairs[0][1].proven()
    assert strangers.count_of("127.0.0.1") == 2
    pairs[1][1].close()
    assert strangers.count_of("127.0.0.1") == 1
    pairs[2][0].close()
    until(lambda: not len(strangers))
    exchange(*pairs[0])


def test_handshakes_that_take_too_long_are_ended(monkeypatch, kit, stranger):
    monkeypatch.setattr(listener, "RETRY_ABOVE", 3)
    for _ in range(3):
        stranger.sendto(first_flight(), tuple(kit.listener.address))
    until(lambda: len(kit.listener._half_open) == 3)
    slow = list(kit.listener._half_open)
    monkeypatch.setattr(listener, "HANDSHAKE_TIMEOUT", 0.0)
    stranger.sendto(first_flight(), tuple(kit.listener.address))
    until(lambda: all(carrier.closed for carrier in slow))
    until(lambda: len(kit.listener._half_open) == 1)


def test_carriers_that_nobody_accepts_are_bounded(kit, monkeypatch):
    monkeypatch.setattr(listener, "MAX_WAITING", 3)
    dialled = [gevent.spawn(outcome, endpoint.dial, kit.listener.address, kit.client_tls) for _ in range(6)]
    gevent.joinall(dialled)

    def sent_away():
        return sum(isinstance(job.value, Unreachable) or job.value.closed for job in dialled)

    until(lambda: sent_away() == 3)
    for _ in range(3):
        assert not kit.listener.accept().closed
    for job in dialled:
        if not isinstance(job.value, Unreachable):
            job.value.close()


@pytest.mark.parametrize("harm", ["replay", "flip", "truncate", "noise"])
def test_datagrams_that_are_not_the_peers_cost_nothing_but_themselves(kit, harm):
    chance = random.Random(7)

    def damaged(datagram):
        data = bytearray(datagram)
        if harm == "flip":
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif harm == "truncate":
            del data[chance.randrange(len(data)) :]
        elif harm == "noise":
            data[9:] = chance.randbytes(len(data) - 9)
        return bytes(data)

    relay = Relay(kit.listener.address)
    relay.harm = lambda datagram, up: [damaged(datagram), datagram, damaged(datagram)]
    near = endpoint.dial(Address("127.0.0.1", relay.port), kit.client_tls)
    far = kit.listener.accept()
    exchange(near, far, 150_000)
    assert not near.closed
    assert not far.closed
    near.close()
    relay.close()


def broken(*_, **__):
    raise RuntimeError("a bug")


@pytest.mark.parametrize("method", ["receive_datagrams", "trains_to_send", "get_timer", "take_events"])
@pytest.mark.parametrize("at", [0, 1], ids=["client", "server"])
def test_a_bug_in_the_engine_costs_one_connection(kit, method, at, caplog):
    pairs = [kit.dial(), kit.dial()]
    setattr(pairs[0][at].engine, method, broken)
    stream = pairs[0][0].open()
    outcome(stream.sendall, b"x")
    until(lambda: pairs[0][at].closed)
    exchange(*pairs[1])
    assert "internal error" in str(pairs[0][at].error)
    assert [record for record in caplog.records if record.levelno == logging.ERROR]
    assert pairs[0][1] in kit.listener._carriers or at == 1


class Faulty:
    """A plugin's controller that fails once it is asked for its window."""

    pacing_rate = None

    def __init__(self, datagram_size):
        self.works = True

    @property
    def window(self):
        return 100_000 if self.works else broken()

    def on_sent(self, packet, in_flight):
        pass

    def on_sample(self, sample):
        pass


def test_a_bug_in_a_controller_costs_one_connection(kit, caplog):
    kit.listener._settings = Settings(Faulty)
    (_, far), other = kit.dial(), kit.dial()
    far.engine._loss.controller.works = False
    far.flush()
    assert far.closed
    exchange(*other)
    assert "the connection with 127.0.0.1 failed" in caplog.text


def test_a_controller_that_cannot_be_made_costs_one_connection(kit, caplog):
    exchange(*kit.dial())
    kit.listener._settings = Settings(broken)
    refused = gevent.spawn(kit.transport.dial, kit.listener.address, kit.client_tls)
    until(lambda: "making a connection for 127.0.0.1 failed" in caplog.text)
    refused.kill()
    kit.listener._settings = Settings(Faulty)
    exchange(*kit.dial())


def test_a_bug_on_a_timer_costs_one_connection(kit, caplog):
    _, far = kit.dial()
    far.engine.handle_timer = broken
    far.engine.get_timer = lambda: 0.0
    far._on_timer()
    assert far.closed
    assert "the connection with 127.0.0.1 failed: a timer" in caplog.text
    exchange(*kit.dial())


def test_streams_that_are_reset_before_anybody_accepts_them_are_bounded(kit):
    near, far = kit.dial()
    opened = 0
    while not near.closed:
        until(lambda: near.capacity or near.closed)
        if near.capacity:
            near.open().reset()
            opened += 1
        assert len(far._streams.waiting) <= streams.MAX_WAITING + 1
        assert opened < 10 * streams.MAX_WAITING
    assert "nobody has accepted" in str(near.error)
    exchange(*kit.dial())


@pytest.mark.parametrize(("code", "seen"), [(0, None), (7, 7), (2**62 - 1, 2**32 - 1)])
def test_a_peer_closes_with_any_code(kit, code, seen):
    near, far = kit.dial()
    near.engine.close(error_code=code, reason_phrase="because")
    near.flush()
    until(lambda: far.closed)
    assert "because" in str(far.error)
    assert getattr(far.error, "code", None) == seen


def test_a_certificate_that_the_client_refuses_ends_the_servers_side_too(kit):
    with pytest.raises(Exception, match="not the pinned one"):
        endpoint.dial(kit.listener.address, client_tls(server_tls()))
    until(lambda: not kit.listener._carriers)
