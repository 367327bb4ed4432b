"""Carriers that have proven no key: how many there may be, whom they cost a place, and what clients hear."""

import gevent
import pytest
from gevent.event import Event

from lane.carriers import connector as connector_module
from lane.carriers.connector import TunnelConnector
from lane.carriers.path_control import PathControl
from lane.carriers.pool import Pool
from lane.carriers.request_stream import read_reply
from lane.carriers.session_driver import SessionDeadlines
from lane.errors import Closed, Refused, TurnedAway
from lane.proto.hello import Command, Request, pack_hello, token
from lane.server import Server
from lane.server import requests as requests_module
from lane.server import server as server_module
from lane.server.resumption import Resumption
from lane.server.server import SPARES_PER_PEER
from lane.session.registry import Registry
from lane.stream import Address
from lane.testing import MemoryTransport, client_tls, server_tls
from lane.testing.harness import until

KEY, WRONG = bytes(32), bytes([1]) * 32
MB = 1 << 20
IDENTITY = server_tls()
PLACES = 8


class Hook:
    def lane_authenticate(self, token, binding, peer):
        return "user" if token == PROOF else None


PROOF = token(KEY, bytes(32))


class Bed:
    """A server over a transport in memory, whose carriers come from the address that a test says."""

    def __init__(self, per_peer):
        self.transport = MemoryTransport()
        self.listener = self.transport.listen(Address("127.0.0.1", 0), IDENTITY)
        registry = Registry(16 * MB, 512 * MB, 3600.0, 100, 100)
        self.resumption = Resumption(10.0, 10, MB)
        self.server = Server(
            [self.listener], Hook(), {}, registry, self.resumption, per_peer=per_peer - SPARES_PER_PEER
        )
        self.dials = 0

    @property
    def known(self):
        """Carriers that have proven a key."""
        counts = self.server.census()
        return counts["carriers"] - counts["strangers"]

    def come(self, host):
        carrier = self.transport.dial(self.listener.address, client_tls(IDENTITY))
        carrier.other.peer = host
        return carrier

    def crowd(self, host, count):
        carriers = [self.come(host) for _ in range(count)]
        until(self.listener.arrived.empty)
        gevent.idle()
        return carriers

    def connector(self, key, host="192.0.2.1"):
        def dial():
            self.dials += 1
            return self.come(host)

        pool = Pool(dial, lambda carrier: pack_hello(token(key, carrier.binding)), dial_timeout=5.0)
        registry = Registry(16 * MB, 512 * MB, 3600.0, 100, 100)
        paths = PathControl({"memory": (1.0, pool)}, registry, "there is only one")
        return TunnelConnector(paths, registry, SessionDeadlines(10.0, 10.0))


@pytest.fixture
def bed(monkeypatch):
    monkeypatch.setattr(server_module, "MAX_STRANGERS", PLACES)
    monkeypatch.setattr(connector_module, "PAUSES", (0.0, 0.0))
    bed = Bed(per_peer=100)
    yield bed
    bed.server.close(0)


def test_an_address_that_takes_all_places_loses_them(bed):
    early = bed.come("192.0.2.1")
    crowd = bed.crowd("2001:db8::1", 20)
    late = bed.come("192.0.2.2")
    more = [bed.come(f"2001:db8::{number:x}") for number in range(1, 20)]
    until(lambda: all(one.closed for one in [*crowd, *more[: 19 - PLACES + 2]]))
    assert not early.closed
    assert not late.closed
    assert bed.connector(KEY).ping() < 10
    assert bed.server.census()["strangers"] <= PLACES
    assert bed.server.census()["peers"] == 3


def test_who_has_proven_his_key_keeps_his_carrier(bed):
    known = bed.come("192.0.2.1")
    stream = known.open()
    stream.sendall(pack_hello(PROOF))
    until(lambda: bed.known == 1)
    bed.crowd("192.0.2.1", 20)
    assert not known.closed


def test_the_transport_hears_once_that_a_client_has_proven_a_key(bed):
    told = []
    for proof in (WRONG, PROOF):
        carrier = bed.come("192.0.2.1")
        carrier.other.proven = lambda proof=proof: told.append(proof)
        for _ in range(2):
            carrier.open().sendall(pack_hello(proof))
    until(lambda: bed.known == 1)
    bed.crowd("192.0.2.2", 1)
    assert told == [PROOF]


def test_a_user_who_asks_for_what_is_refused_does_not_fill_the_log(bed, caplog):
    caplog.set_level("INFO", "lane.server")
    user, many = bed.come("192.0.2.1"), 5 * requests_module.REFUSALS_AT_ONCE
    for number in range(many):
        stream = user.open()
        stream.sendall(pack_hello(PROOF) + Request(Command.CONNECT, Address(f"{number}.test", 1), 0).pack())
        read_reply(stream.recv)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) < many / 2
    assert lines[0].startswith("user: 0.test:1 refused: ")


def test_strangers_of_a_network_make_room_for_its_users():
    bed = Bed(per_peer=5)
    crowd = bed.crowd("2001:db8::1", 5)
    assert bed.connector(KEY, "2001:db8::2").ping() < 10
    assert [one.closed for one in crowd] == [True, False, False, False, False]
    bed.server.close(0)


def test_a_carrier_beyond_what_a_network_may_have_is_turned_away(bed):
    bed.server._per_peer = 2
    for number in range(2):
        stream = bed.come(f"2001:db8::{number}").open()
        stream.sendall(pack_hello(PROOF))
    until(lambda: bed.known == 2)
    with pytest.raises(TurnedAway):
        bed.connector(KEY, "2001:db8::3").ping()
    assert bed.dials == 3


def test_a_wrong_key_is_refused_once_it_was_answered_so_again(bed):
    with pytest.raises(Refused, match="wrong key"):
        bed.connector(WRONG).ping()
    assert bed.dials == 3


def test_a_client_that_was_turned_away_tries_again(bed, caplog):
    """The server has no room for it at first."""
    caplog.set_level("INFO")
    welcome, turned_away = bed.server._welcome, []

    def full(carrier, transport):
        if len(turned_away) < 2:
            turned_away.append(carrier)
            carrier.close()
        else:
            welcome(carrier, transport)

    bed.server._welcome = full
    assert bed.connector(KEY).ping() < 10
    assert len(turned_away) == 2
    assert caplog.text.count("the server turned us away, trying again") == 2


def test_who_proves_no_key_in_time_is_sent_away(clock):
    bed = Bed(per_peer=100)
    bed.server.deadlines = server_module.ClientDeadlines(hello=1.0)
    silent = bed.crowd("192.0.2.1", 3)
    until(lambda: all(carrier.closed for carrier in silent))
    assert bed.server.census()["carriers"] == 0
    bed.server.close(0)


def test_a_right_hello_may_wait_for_its_request(clock, bed):
    bed.server.deadlines = server_module.ClientDeadlines(hello=1.0)
    carrier = bed.come("192.0.2.1")
    stream = carrier.open()
    stream.sendall(pack_hello(PROOF))
    gevent.sleep(3)
    assert not carrier.closed
    assert bed.known == 1


def test_a_carrier_whose_close_blocks_holds_up_nobody(bed):
    never = Event()
    stuck = bed.crowd("192.0.2.9", PLACES)
    stuck[0].other.close = lambda grace=0: never.wait()
    bed.crowd("192.0.2.9", 2)
    assert bed.connector(KEY).ping() < 10
    with pytest.raises(Closed):
        stuck[1].open()
    never.set()


def close_time(bed, host, hello):
    """Seconds until a carrier is closed that said something wrong."""
    began = gevent.get_hub().loop.now()
    carrier = bed.come(host)
    stream = carrier.open()
    stream.sendall(hello)
    stream.finish()
    assert stream.recv() == b""
    return gevent.get_hub().loop.now() - began


@pytest.mark.parametrize(
    "hello", [pack_hello(token(WRONG, bytes(32))), b"GET / HTTP/1.1" + bytes(99)], ids=["key", "no hello"]
)
def test_wrong_keys_are_answered_ever_later_and_logged_once_a_minute(clock, bed, caplog, hello):
    caplog.set_level("INFO", "lane.guesses")
    times = [close_time(bed, f"2001:db8::{number}", hello) for number in range(1, 9)]
    assert times == pytest.approx([0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0], rel=0.2, abs=0.02)
    assert close_time(bed, "192.0.2.1", hello) < 0.1
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["wrong key from 2001:db8::1", "wrong key from 192.0.2.1"]


def test_a_right_key_waits_for_nobody_who_guesses(clock, bed):
    for _ in range(8):
        close_time(bed, "192.0.2.1", b"x" * 99)
    began = gevent.get_hub().loop.now()
    assert bed.connector(KEY, "192.0.2.1").ping() < 10
    assert gevent.get_hub().loop.now() - began < 1


def test_nothing_is_counted_of_who_proves_his_key_as_he_is_turned_away(bed, monkeypatch):
    prove, server = Hook.lane_authenticate, bed.server

    def too_late(hook, token, binding, peer):
        (carrier,) = server.carriers
        server._turn_away(carrier)
        return prove(hook, token, binding, peer)

    monkeypatch.setattr(Hook, "lane_authenticate", too_late)
    carrier = bed.come("192.0.2.1")
    carrier.open().sendall(pack_hello(token(KEY, carrier.binding)))
    until(lambda: carrier.closed)
    until(lambda: not len(server._owned))
    assert not server._visits
