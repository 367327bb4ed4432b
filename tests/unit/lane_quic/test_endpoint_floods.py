"""Floods from a peer whose handshake was done: each costs that connection, and no more than a bound."""

import logging
import select

import attacks
import gevent
import pytest
from aioquic.quic.packet import QuicErrorCode
from attacks import ATTACKS, SILENT, Peer, attack, frame
from gevent import socket
from lane_quic.engine import assembler, peer_limits
from lane_quic.engine.flow_control import STREAMS
from lane_quic.udp import udp

from lane.errors import Closed
from lane.testing.harness import echo, outcome, settled, until
from tests.support.quic_endpoints import BOUNDS, exchange, sizes

PACKETS = 400
DENSE = ("pings", "stops", "path challenges", "ACKs", "empty data", "empty datagrams", "a byte a frame")
ENDS = {
    "too many connection IDs": QuicErrorCode.CONNECTION_ID_LIMIT_ERROR,
    "CRYPTO far ahead": QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
    "CRYPTO without end": QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
    "single bytes": QuicErrorCode.INTERNAL_ERROR,
    "beyond the window": QuicErrorCode.FLOW_CONTROL_ERROR,
    **{f"{what}, dense": QuicErrorCode.PROTOCOL_VIOLATION for what in DENSE},
    "HANDSHAKE_DONE": QuicErrorCode.PROTOCOL_VIOLATION,
    "unknown frames": QuicErrorCode.FRAME_ENCODING_ERROR,
    "optimistic ACKs": QuicErrorCode.PROTOCOL_VIOLATION,
    "key updates": QuicErrorCode.KEY_UPDATE_ERROR,
}
"""Attacks that end the connection, and with which error; the others are borne."""


@pytest.fixture
def attacked(kit):
    """Makes the listener's side of a connection with a hostile peer."""
    victims = []

    def make():
        victims.append(Victim(kit))
        return victims[-1]

    yield make
    for victim in victims:
        victim.peer.close()


class Victim:
    """The listener's side of a hostile peer's connection, whose streams are read."""

    def __init__(self, kit):
        accepting = gevent.spawn(kit.listener.accept)
        self.peer = Peer(kit.listener.address.port, socket, gevent.sleep)
        self.carrier = accepting.get()
        self.engine = self.carrier.engine
        self.most = {}
        self._sock = kit.listener._addresses[0]._socket._sock
        self._reading = gevent.spawn(self._read)

    def _read(self):
        while not isinstance(stream := outcome(self.carrier.accept), Closed):
            gevent.spawn(outcome, echo, stream)

    def suffer(self, name, packets=PACKETS):
        """Take an attack: the largest sizes on the way."""
        peer = self.peer
        peer.silent = name in SILENT
        for number in range(packets):
            attack(name, peer, number)
            if number % 16 == 15:
                until(lambda: self.carrier.closed or not select.select([self._sock], [], [], 0)[0])
                peer.listen()
                self.note()
            if self.carrier.closed:
                break
        gevent.sleep(0)
        self.note()

    def note(self):
        for what, size in sizes(self.carrier).items():
            self.most[what] = max(self.most.get(what, 0), size)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_flood_costs_its_own_connection_at_most(kit, attacked, name, caplog):
    honest = kit.dial()
    exchange(*honest, 10_000)
    victim = attacked()
    with caplog.at_level(logging.DEBUG, "lane"):
        victim.suffer(name)
        exchange(*honest, 10_000)
        assert {what: size for what, size in victim.most.items() if size > BOUNDS[what]} == {}
        ended = victim.engine._close_event
        assert (ended and ended.error_code) == ENDS.get(name)
        if name in ENDS:
            until(lambda: victim.carrier.closed)
            assert victim.carrier not in kit.listener._carriers
            assert victim.carrier not in kit.listener._by_cid.values()
            assert victim.carrier._streams == {}
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []
    exchange(*kit.dial(), 10_000)
    victim.carrier.shut("enough")
    assert set(kit.listener._by_cid.values()) == {far for _, far in kit._pairs}


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in ENDS])
def test_a_connection_is_idle_after_a_flood(attacked, name):
    """No timer that fires again and again, and what is due is done: the connection works on."""
    victim = attacked()
    victim.suffer(name, 100)
    victim.peer.silent = False
    calls = []
    flush = victim.carrier.flush
    victim.carrier.flush = lambda: calls.append(1) or flush()

    def quiet():
        before = len(calls)
        for _ in range(5):
            victim.peer.listen()
            gevent.sleep(0.02)
        return len(calls) - before < 10

    until(quiet)


def test_answers_are_no_larger_than_questions(kit, attacked):
    """PATH_RESPONSE, NEW_CONNECTION_ID, RETIRE_CONNECTION_ID: bytes that come back for those sent."""
    for name in ("path challenges", "new connection IDs", "limits", "ACKs of many ranges"):
        victim = attacked()
        victim.peer.sent = victim.peer.received = 0
        victim.suffer(name)
        # At most one datagram of 1200 bytes answers one with challenges, which is as long. A few ACKs and
        # a search for a larger datagram come beside them.
        assert 0 < victim.peer.received < 1.05 * victim.peer.sent
        victim.carrier.shut("enough")


def test_a_handshake_holds_little_of_tls_messages_that_do_not_come(kit, attacked):
    """What a stranger can say before it has shown anything: a CRYPTO frame far ahead, in an Initial."""
    victim = attacked()
    for epoch, stream in victim.engine._crypto_streams.items():
        assert type(stream.receiver) is assembler.Assembler, epoch
    victim.peer.say(frame(0x06, peer_limits.MOST_CRYPTO - 5, 1, data=b"x"))
    until(lambda: sizes(victim.carrier)["bytes of TLS"])
    assert sizes(victim.carrier)["bytes of TLS"] == 1


def test_datagrams_larger_than_any_of_lanes_are_not_looked_at(attacked, monkeypatch):
    victim = attacked()
    monkeypatch.setattr(udp, "BATCH", 1)  # so there are batches of nothing else
    monkeypatch.setattr(udp, "BACK_OFF", 1000)
    seen = []
    real = victim.engine.receive_datagrams
    victim.engine.receive_datagrams = lambda datagrams, *rest: (
        seen.extend(map(len, datagrams)) or real(datagrams, *rest)
    )
    for size in (1501, 20_000, 1500):
        victim.peer.say(bytes(size - 9 - 2 - 16))
    until(lambda: 1500 in seen)
    assert max(seen) == 1500


def test_attacks_are_what_they_seem(kit, attacked):
    """That the server bears an attack says something only if it hears it."""
    victim = attacked()
    victim.suffer("reset streams with a byte", 200)
    assert victim.carrier._streams.next_incoming > 4 * STREAMS
    victim.suffer("path challenges", 20)
    assert set(ATTACKS) >= attacks.SILENT
    assert settled(lambda: victim.engine._packet_number) > 20
