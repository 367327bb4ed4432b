"""Real packets, spoiled and sealed with the right keys, for both ends of a live connection.

A run is told by its seed; `make fuzz` goes on for LANE_TEST_FUZZ_SECONDS (600), from LANE_TEST_FUZZ_SEED on.
"""

import logging
import os
import random
import socket
from itertools import count
from time import monotonic

import gevent
import pytest
from aioquic.quic.connection import QuicConnectionState
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch
from lane_quic.configuration import Settings
from lane_quic.endpoint import Client
from lane_quic.listener import QuicListener
from lane_quic.trace.qlog import Qlog

from lane.stream import Address
from lane.testing import client_tls, server_tls
from lane.testing.harness import outcome
from tests.support.quic_corpus import put_together, record, spoiled, take_apart
from tests.support.quic_endpoints import BOUNDS, exchange, first_flight, sizes

LONG = 600.0 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 0.0
SECONDS = float(os.environ.get("LANE_TEST_FUZZ_SECONDS", LONG))
SEED = int(os.environ.get("LANE_TEST_FUZZ_SEED", "1"))
CONNECTIONS, PACKETS = 12, 60
KNOWN = {int(code) for code in QuicErrorCode} | set(range(0x100, 0x200))
"""Codes that RFC 9000 has for the end of a connection."""
NOWHERE = (("127.0.0.1", 9), ())


class World:
    """A listener, a bystander's connection, and what is logged."""

    def __init__(self, settings):
        self.tls, self.settings = server_tls(), settings
        self.listener = QuicListener(Address("127.0.0.1", 0), self.tls, settings)
        sock = self.listener._addresses[0]._socket
        send = sock.send
        sock.send = lambda datagrams: send([d for d in datagrams if d[1] != NOWHERE])
        self.bystander = self.connect()
        self.records = []
        self.handler = logging.Handler(logging.WARNING)
        self.handler.emit = self.records.append
        logging.getLogger("lane").addHandler(self.handler)

    def connect(self):
        client = Client(socket.AF_INET, tuple(self.listener.address), client_tls(self.tls), self.settings)
        client.carrier.ready.wait()
        return client, self.listener.accept()

    def check(self):
        exchange(self.bystander[0].carrier, self.bystander[1], 3000)
        assert self.records == []

    def close(self):
        logging.getLogger("lane").removeHandler(self.handler)
        self.bystander[0].carrier.close()
        self.listener.close()


class Connection:
    """One that is to be spoiled: both sides read whatever comes."""

    def __init__(self, world, chance):
        self.world, self.chance = world, chance
        self.client, self.far = world.connect()
        self.near = self.client.carrier
        self.readers = [gevent.spawn(self.accept, self.near), gevent.spawn(self.accept, self.far)]
        for size in (1, 5000, 0):
            stream = self.near.open()
            stream.sendall(bytes(size))
            self.readers.append(gevent.spawn(outcome, self.read, stream))
        gevent.sleep(0.002)

    def accept(self, carrier):
        while not isinstance(stream := outcome(carrier.accept), Exception):
            self.readers.append(gevent.spawn(outcome, self.read, stream))

    def read(self, stream):
        while data := stream.recv():
            stream.sendall(data[:1000])
        stream.close()

    def hear(self, payload, *, server):
        """Have one side take a packet of the other's."""
        sender = (self.near if server else self.far).engine
        keys, number = sender._cryptos[Epoch.ONE_RTT], sender._packet_number
        sender._packet_number += 1
        first = bytes((0x41 | keys.key_phase << 2,))
        head = first + sender._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
        packet = keys.encrypt_packet(head, payload.ljust(4, b"\0"), number)
        if server:
            path = self.far.engine.get_peer_address()
            touched = self.world.listener._addresses[0]._receive([packet], path, monotonic())
        else:
            touched = self.client._receive([packet], None, monotonic())
        for carrier in touched:
            carrier.flush()

    def run(self, corpus):
        server = self.chance.random() < 0.7
        victim = self.far if server else self.near
        for _ in range(PACKETS):
            self.hear(spoiled(corpus, self.chance, victim.engine._packet_number), server=server)
            if self.chance.random() < 0.2:
                gevent.sleep(0.001)
            excess = {what: size for what, size in sizes(victim).items() if size > BOUNDS[what]}
            if not server:
                excess.pop("bytes ahead", None)  # a client has larger windows
            assert excess == {}
            if self.near.closed or self.far.closed or victim.engine._close_event:
                break
        for carrier in (self.near, self.far):
            if carrier.engine._close_pending or carrier.engine._state is QuicConnectionState.CLOSING:
                assert carrier.engine._close_event.error_code in KNOWN
            assert "internal error" not in str(carrier.error)

    def close(self):
        self.near.shut("enough")
        self.far.shut("enough")
        gevent.killall(self.readers)


def stranger(world, chance):
    """A first packet whose frames are spoiled, under keys that anybody can make."""
    keys, first = CryptoPair(), first_flight()
    cid = first[6:14]
    keys.setup_initial(cid, is_client=False, version=1)
    header_size = 1 + 4 + 1 + 8 + 1 + 8 + 1 + 2
    room = len(first) - header_size - 2 - 16
    size = int.from_bytes(first[header_size - 2 : header_size], "big") & 0x3FFF
    plain = keys.recv.decrypt_packet(first[: header_size + size], header_size, 0)[1].rstrip(b"\0")
    payload = spoiled([plain], chance)
    payload = payload[:room].ljust(room, b"\0")
    size = 2 + len(payload) + 16
    head = b"\xc1" + first[1 : header_size - 2] + (size | 0x4000).to_bytes(2, "big") + b"\0\0"
    keys.setup_initial(cid, is_client=True, version=1)
    packet = keys.encrypt_packet(head, payload, 0)
    world.listener._addresses[0]._receive([packet], NOWHERE, monotonic())
    if flight := world.listener._queue._next():
        world.listener._begin(flight)
    for carrier in list(world.listener._half_open):
        carrier.fail(OSError("enough"))


@pytest.fixture(scope="module")
def corpus():
    return record()


def test_the_corpus_is_taken_from_all_that_peers_say(corpus):
    kinds = {payload[0] for payload in corpus}
    assert {0x01, 0x02, 0x04, 0x05, 0x18, 0x19, 0x1A, 0x1B, 0x31} <= kinds
    assert any(kind & 0xF8 == 0x08 for kind in kinds)
    assert len(corpus) > 50
    assert all(put_together(take_apart(payload)) for payload in corpus)


@pytest.mark.parametrize("how", ["fast", "slow", "traced"])
def test_spoiled_packets_cost_their_connection_at_most(corpus, how, tmp_path):
    world = World(Settings(fast=how != "slow", qlog=Qlog(tmp_path) if how == "traced" else None))
    end = monotonic() + SECONDS / 3
    for seed in count(SEED):
        if monotonic() >= end and seed >= SEED + CONNECTIONS:
            break
        chance = random.Random(seed)
        try:
            with gevent.Timeout(30, AssertionError("it hangs")):
                connection = Connection(world, chance)
                connection.run(corpus)
                connection.close()
                for _ in range(10):
                    stranger(world, chance)
                world.check()
        except BaseException as error:
            said = [
                record.getMessage() + str(record.exc_info and record.exc_info[1]) for record in world.records
            ]
            raise AssertionError(f"{how}, seed {seed}: {said}") from error
        for path in tmp_path.iterdir():
            path.unlink()
    assert {*world.listener._carriers} == {world.bystander[1]}
    world.close()
