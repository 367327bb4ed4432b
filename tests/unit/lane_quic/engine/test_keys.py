"""Keys that change every few dozen packets, begun by either side, over bad paths, and with plain aioquic."""

import random
from contextlib import contextmanager

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.stream import QuicStream
from lane_quic.configuration import client_configuration, server_configuration
from lane_quic.engine import keys
from lane_quic.engine.engine import Engine
from lane_quic.plugin import QuicTransport

from lane.stream import Address
from lane.testing.harness import Kit, pattern
from tests.support.quic_endpoints import Relay, exchange
from tests.support.quic_pipe import IDENTITY, STATE_KEY, Pipe

SIZE = 600_000
BAD = {"loss": 0.05, "twice": 0.05, "jitter": 0.01}


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request):
    return request.param


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(keys, "UPDATE_AFTER", 30)


def both_ways(pipe):
    """Carry SIZE bytes in each direction, at the same time."""
    up, down = pattern(SIZE, 1), pattern(SIZE, 2)
    number = pipe.client.open(up, end=True)
    pipe.run(lambda: pipe.server.data[number])
    pipe.server.engine.send_stream_data(number, down, True)
    pipe.run(lambda: number in pipe.client.ends and number in pipe.server.ends)
    assert (pipe.server.data[number], pipe.client.data[number]) == (up, down)


def pairs(pipe):
    return [side.engine.keys for side in (pipe.client, pipe.server)]


@pytest.mark.parametrize("path", [{}, {"jitter": 0.01}, {"loss": 0.1}, BAD], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_to_new_keys(often, fast, path, seed):
    pipe = Pipe(fast=fast, seed=seed, **path).connect()
    both_ways(pipe)
    pipe.settle(1)
    for pair in pairs(pipe):
        assert pair.sent >= 4
        assert abs(pair.sent - pair.received) <= 1  # who has nothing to say need not answer
        assert pair.forged == 0  # late ones with the keys of before were read


@pytest.mark.parametrize("who", ["client", "server"])
def test_either_side_begins(fast, who):
    pipe = Pipe(fast=fast).connect()
    pipe.settle(1)
    begins = getattr(pipe, who).engine
    for count in range(1, 6):
        begins.request_key_update()
        begins.request_key_update()
        begins.send_ping(1)
        pipe.settle(1)
        assert [(pair.sent, pair.received) for pair in pairs(pipe)] == [(count, count)] * 2


def test_both_may_begin_at_once(fast):
    pipe = Pipe(fast=fast, jitter=0.01).connect()
    pipe.settle(1)
    for side in (pipe.client, pipe.server):
        side.engine.request_key_update()
        side.engine.send_ping(1)
    both_ways(pipe)
    assert [(pair.sent, pair.received, pair.forged) for pair in pairs(pipe)] == [(1, 1, 0)] * 2


def test_keys_do_not_change_again_before_the_peer_has_answered_under_them():
    pipe = Pipe().connect()
    pipe.settle(1)
    engine = pipe.client.engine
    for _ in range(5):
        engine.request_key_update()
        engine.send_ping(1)
        engine.datagrams_to_send(pipe.now)
    assert (engine.keys.sent, engine.keys.received) == (1, 0)


def test_the_keys_before_are_read_with_for_a_while(fast):
    """A packet that comes after others with new keys; and one that comes much later."""
    pipe = Pipe(fast=fast).connect()
    pipe.settle(1)
    client, server = pipe.client.engine, pipe.server
    late = []
    for text in (b"late", b"too late"):
        client.datagrams.send(text)
        late += [datagram for datagram, _ in client.datagrams_to_send(pipe.now)]
    client.request_key_update()
    client.datagrams.send(b"first")
    pipe.settle(0.05)
    assert server.datagrams == [b"first"]
    server.engine.receive_datagrams(late[:1], "peer", pipe.now)
    server.handle_events()
    assert server.datagrams == [b"first", b"late"]
    pipe.settle(2)
    assert [pair.before for pair in pairs(pipe)] == [None, None]
    server.engine.receive_datagrams(late[1:], "peer", pipe.now)
    server.handle_events()
    assert server.datagrams == [b"first", b"late"]


def test_forged_packets_with_other_keys_cost_one_derivation(monkeypatch, fast):
    pipe = Pipe(fast=fast).connect()
    pipe.settle(1)
    derived, derive = [], keys.next_key_phase
    monkeypatch.setattr(keys, "next_key_phase", lambda context: derived.append(1) or derive(context))
    head = bytes((0x40,)) + pipe.server.engine.host_cid
    for seed in range(50):
        pipe.server.engine.receive_datagram(head + random.Random(seed).randbytes(40), "peer", pipe.now)
    assert len(derived) == 1
    assert pipe.server.engine.keys.forged == 50
    both_ways(pipe)


def test_who_forges_without_end_ends_the_connection(monkeypatch, fast):
    monkeypatch.setattr(keys, "MOST_FORGED", 20)
    pipe = Pipe(fast=fast).connect()
    pipe.settle(1)
    server = pipe.server.engine
    head = bytes((0x40,)) + server.host_cid
    for seed in range(20):
        assert server._close_event is None
        server.receive_datagrams([head + random.Random(seed).randbytes(40)], "peer", pipe.now)
    assert server._close_event.error_code == QuicErrorCode.AEAD_LIMIT_REACHED


def test_a_peer_that_keeps_its_keys_ends_the_connection_before_ours_are_worn_out(monkeypatch, fast, often):
    monkeypatch.setattr(keys, "MOST_PACKETS", 100)
    pipe = Pipe(fast=fast).connect()
    pipe.settle(1)
    monkeypatch.setattr(pipe.server.engine.keys, "_send_next", lambda trigger: None)
    pipe.server.engine._update_at = 1 << 62
    client = pipe.client.engine
    pipe.client.open(bytes(SIZE))
    with pytest.raises(AssertionError):
        pipe.run(lambda: False, seconds=60)
    assert client._close_event.error_code == QuicErrorCode.AEAD_LIMIT_REACHED
    assert client._packet_number - client._phase_from < 100 + 300  # and a batch
    assert client.keys.sent == 1


# With a peer that has all of aioquic, and nothing else.


class Ends:
    """An engine of lane's and a connection of aioquic's, on a clock of their own."""

    def __init__(self, ours, loss):
        self.now, self.loss, self.random = 1000.0, loss, random.Random(1)
        configuration, theirs = client_configuration("server.test"), server_configuration(IDENTITY)
        client = Engine(configuration) if ours == "client" else QuicConnection(configuration=configuration)
        client.connect("server", now=self.now)
        first = [datagram for datagram, _ in client.datagrams_to_send(now=self.now)]
        cid = first[0][6 : 6 + first[0][5]]
        if ours == "server":
            server = Engine(theirs, cid, STATE_KEY)
        else:
            server = QuicConnection(configuration=theirs, original_destination_connection_id=cid)
        self.ends = {"client": client, "server": server}
        self.lane, self.plain = (client, server) if ours == "client" else (server, client)
        self.data = {"client": b"", "server": b""}
        for datagram in first:
            server.receive_datagram(datagram, "client", now=self.now)

    def step(self):
        """Half a round trip: 10 ms."""
        self.now += 0.01
        for name, other in (("server", "client"), ("client", "server")):
            end = self.ends[name]
            if (at := end.get_timer()) is not None and at <= self.now:
                end.handle_timer(now=self.now)
            for datagram, _ in end.datagrams_to_send(now=self.now):
                if self.random.random() >= self.loss:
                    self.ends[other].receive_datagram(datagram, name, now=self.now)
            self.take(name)
            self.take(other)

    def take(self, name):
        end = self.ends[name]
        while (event := end.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                self.data[name] += event.data
                if end is self.lane:
                    end.consume(event.stream_id, len(event.data), len(self.data[name]))

    def until(self, condition):
        for _ in range(20_000):
            if condition():
                return
            self.step()
        raise AssertionError("what was waited for did not happen")


@pytest.mark.parametrize("ours", ["client", "server"])
@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_plain_aioquic_as_the_peer(often, ours, loss):
    ends = Ends(ours, loss)
    ends.until(lambda: all(end._handshake_confirmed for end in ends.ends.values()))
    up, down = pattern(SIZE, 1), pattern(SIZE, 2)
    number = ends.ends["client"].get_next_available_stream_id()
    ends.ends["client"].send_stream_data(number, up, True)
    ends.until(lambda: ends.data["server"])
    ends.ends["server"].send_stream_data(number, down, True)
    updates = steps = 0

    def over():
        nonlocal updates, steps
        steps += 1
        if steps % 10 == 0 and ends.lane.keys.sent == ends.lane.keys.received:
            ends.plain.request_key_update()
            updates += 1
        return len(ends.data["client"]) == len(ends.data["server"]) == SIZE

    ends.until(over)
    assert (ends.data["server"], ends.data["client"]) == (up, down)
    assert updates >= 2
    assert ends.lane.keys.sent > updates
    assert isinstance(next(iter(ends.plain._streams.values())), QuicStream)


# Over real sockets.


@contextmanager
def kit():
    kit = Kit(QuicTransport(), Address("127.0.0.1", 0))
    try:
        yield kit
    finally:
        kit.close()


def overtaking(seed):
    """A path that loses 2 %, and lets packets overtake others, some by far."""
    chance, held = random.Random(seed), []

    def harm(datagram, up):
        if datagram[0] & 0x80:
            return [datagram]
        if chance.random() < 0.02:
            return []
        if chance.random() < 0.1 and len(held) < 5:
            held.append((datagram, up))
            return []
        late = [each for each, way in held if way == up] if chance.random() < 0.2 else []
        held[:] = [each for each in held if not (late and each[1] == up)]
        return [datagram, *late]

    return harm


@pytest.mark.parametrize("bad", [False, True], ids=["loopback", "lossy"])
def test_both_directions_over_real_sockets(often, bad):
    with kit() as real:
        relay = Relay(real.listener.address)
        if bad:
            relay.harm = overtaking(1)
        near = real.transport.dial(Address("127.0.0.1", relay.port), real.client_tls)
        far = real.listener.accept()
        exchange(near, far, 5 * SIZE)
        assert near.engine.keys.received >= 4
        assert bad or near.engine.keys.forged == far.engine.keys.forged == 0
        near.close()
        relay.close()
