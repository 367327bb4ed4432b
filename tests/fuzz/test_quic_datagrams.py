"""QUIC endpoints under fire: no datagram raises, breaks the engine or touches anybody else's connection."""

import logging
import socket
from time import monotonic

import gevent
import pytest
from aioquic.buffer import encode_uint_var
from aioquic.tls import Epoch
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.configuration import Settings, client_configuration
from lane_quic.endpoint import Client
from lane_quic.engine.engine import Engine
from lane_quic.listener import QuicListener

from lane.stream import Address
from lane.testing import client_tls, server_tls

INITIAL, HANDSHAKE, NEGOTIATION = b"\xc0\0\0\0\1\x08", b"\xe0\0\0\0\1\x08", b"\x80\0\0\0\0\x08"
"""Starts of long headers, up to the length of a connection ID."""
NOWHERE = (("127.0.0.1", 9), ())


def patience():
    return gevent.Timeout(20, AssertionError("the test hangs"))


class World:
    """A listener, a connection that must not suffer, and what the transport logs as errors."""

    def __init__(self):
        self.tls = server_tls()
        self.listener = QuicListener(Address("127.0.0.1", 0), self.tls)
        self.sent = []
        sock = self.listener._addresses[0]._socket
        sock.send, self._send = self._record, sock.send
        self.client, self.far = self.connect()
        self.near = self.client.carrier
        self.stream = self.near.open()
        self.stream.sendall(b"!")
        self.other = self.far.accept()
        self.other.recv()
        self.errors = []
        self.handler = logging.Handler(logging.ERROR)
        self.handler.emit = self.errors.append
        logging.getLogger("lane.quic").addHandler(self.handler)

    def _record(self, datagrams):
        self.sent = [data for data, _ in datagrams]
        self._send([entry for entry in datagrams if entry[1] != NOWHERE])

    def connect(self):
        client = Client(socket.AF_INET, tuple(self.listener.address), client_tls(self.tls), Settings())
        with patience():
            client.carrier.ready.wait()
            return client, self.listener.accept()

    def check(self):
        """Nothing broke, and the bystander's connection works both ways."""
        with patience():
            self.stream.sendall(b"ping")
            assert self.other.recv() == b"ping"
            self.other.sendall(b"pong")
            assert self.stream.recv() == b"pong"
        assert self.errors == []

    def receive(self, datagram, path=NOWHERE):
        """What the listener's receive loop does with a datagram."""
        self.batch(self.listener._addresses[0], datagram, path)

    def batch(self, endpoint, datagram, path=None):
        for carrier in endpoint._receive([datagram], path, monotonic()):
            carrier.flush()

    def close(self):
        logging.getLogger("lane.quic").removeHandler(self.handler)
        self.near.close()
        self.listener.close()


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.close()


def first_flight():
    engine = Engine(client_configuration("server.test"))
    engine.connect("server", now=0.0)
    return engine.datagrams_to_send(now=0.0)[0][0]


mutations = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=4)


def mutated(datagram, changes, cut):
    data = bytearray(datagram)
    for offset, piece in changes:
        at = offset % len(data)
        data[at : at + len(piece)] = piece
    return bytes(data[: len(data) - cut % len(data)])


@given(datagram=st.binary(max_size=1500))
def test_garbage_to_a_listener(world, datagram):
    world.receive(datagram)
    world.check()


@given(first=st.integers(0, 255), version=st.sampled_from([0, 1, 0x6B3343CF, 7]), rest=st.binary(max_size=60))
def test_garbage_with_a_long_header_to_a_listener(world, first, version, rest):
    world.receive((bytes((first | 0x80,)) + version.to_bytes(4, "big") + rest).ljust(1200, b"\0"))
    world.check()


@given(changes=mutations, cut=st.integers(0, 30))
def test_mutated_first_flights(world, changes, cut):
    world.receive(mutated(first_flight(), changes, cut) + bytes(cut))
    world.check()


@given(form=st.sampled_from([b"\x40", b"\x7f", INITIAL, HANDSHAKE]), rest=st.binary(max_size=1400))
def test_garbage_to_the_bystander_itself(world, form, rest):
    """From an address that is not the client's, to the connection IDs that are."""
    for cid in world.far.engine.host_cids[:2]:
        world.receive(form + cid + rest)
    world.check()


@given(
    form=st.sampled_from([b"", b"\x40", INITIAL, HANDSHAKE, NEGOTIATION]), datagram=st.binary(max_size=1400)
)
def test_garbage_to_a_client(world, form, datagram):
    for data in (form + datagram, form + world.near.engine.host_cids[0] + datagram):
        world.batch(world.client, data)
    world.check()


@given(changes=mutations, cut=st.integers(0, 1200))
def test_mutated_answers_to_a_client(world, changes, cut):
    world.other.sendall(b"an answer")
    world.far.flush()
    genuine = world.sent[-1] if world.sent else bytes(40)
    world.batch(world.client, mutated(genuine, changes, cut))
    with patience():
        assert world.stream.recv() == b"an answer"
    world.check()


varint = st.one_of(st.integers(0, 300), st.integers(0, 2**62 - 1)).map(encode_uint_var)
kinds = st.one_of(st.integers(0, 0x31), st.integers(0, 2**62 - 1)).map(encode_uint_var)
frame = st.tuples(kinds, st.lists(varint, max_size=5).map(b"".join), st.binary(max_size=20)).map(b"".join)


def seal(engine, payload):
    """A 1-RTT packet as a peer with the right keys would send it, whatever is in it."""
    number = engine._packet_number
    engine._packet_number += 1
    header = b"\x41" + engine._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
    return engine._cryptos[Epoch.ONE_RTT].encrypt_packet(header, payload.ljust(4, b"\0"), number)


@pytest.mark.parametrize("victim", ["server", "client"])
@given(payloads=st.lists(st.lists(frame, min_size=1, max_size=4).map(b"".join), min_size=1, max_size=3))
def test_frames_of_a_malicious_peer(world, victim, payloads):
    client, far = world.connect()
    near = client.carrier
    streams = [near.open() for _ in range(3)]
    for stream in streams:
        stream.sendall(b"x")
    with patience():
        accepted = [far.accept() for _ in streams]
        accepted[0].sendall(b"y")
        assert streams[0].recv() == b"y"
    for payload in payloads:
        if victim == "server":
            world.receive(seal(near.engine, payload[:1000]), far.engine.get_peer_address())
        else:
            world.batch(client, seal(far.engine, payload[:1000]))
    world.check()
    for end in (near, far):
        end.close()
    world.check()
