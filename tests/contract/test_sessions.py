"""Sessions over each of the four transports: the same promises, whatever carries them."""

import hashlib
import random

import gevent
import psutil
import pytest
from lane_quic.plugin import QuicTransport
from lane_tls.plugin import TLSTransport

from lane.errors import Closed, LaneError, ProtocolError, Reset
from lane.proto.frames import Data, pack
from lane.session.owner import Owner
from lane.session.receive_window import INITIAL_WINDOW
from lane.session.registry import Registry
from lane.stream import Address
from lane.testing import MemoryTransport, TCPTransport, client_tls, server_tls
from lane.testing.harness import settled, until

MB = 1 << 20
CHUNK = random.Random(1).randbytes(MB)


class Side:
    """One side of the pairs: its registry, and what it opened."""

    def __init__(self):
        self.registry = Registry(16 * MB, 512 * MB, 3600.0, 100_000, 100_000)
        self.contexts = []
        self.carrying = {}

    def session(self, stream, carrier):
        context = self.registry.session(INITIAL_WINDOW, Owner())
        self.contexts.append(context)
        session = context.__enter__()
        self.carrying[session] = gevent.spawn(session.carry, stream, carrier.stats)
        return session

    def close(self):
        for context in self.contexts:
            context.__exit__(None, None, None)
        self.registry.close()


class Pairs:
    """Makes pairs of sessions over carriers of one transport."""

    def __init__(self, transport):
        self.transport = transport
        self.tls = server_tls()
        self.listener = transport.listen(Address("127.0.0.1", 0), self.tls)
        self.near, self.far = Side(), Side()
        self.carriers = []

    def streams(self):
        usable = next((pair for pair in self.carriers if pair[0].capacity), None)
        if usable is None:
            usable = self.dial()
        near, far = usable
        stream = near.open()
        stream.sendall(b"!")
        other = far.accept()
        assert other.recv(1) == b"!"
        return stream, other

    def dial(self):
        accepted = gevent.spawn(self.listener.accept)
        near = self.transport.dial(self.listener.address, client_tls(self.tls))
        self.carriers.append((near, accepted.get()))
        return self.carriers[-1]

    def open(self):
        near, far = self.streams()
        owners = [pair for pair in self.carriers if pair]
        return self.near.session(near, owners[-1][0]), self.far.session(far, owners[-1][1])

    def close(self):
        for side in (self.near, self.far):
            side.close()
        for near, far in self.carriers:
            near.close()
            far.close()
        self.listener.close()


TRANSPORTS = {"memory": MemoryTransport, "tcp": TCPTransport, "tls": TLSTransport, "quic": QuicTransport}


@pytest.fixture(params=TRANSPORTS)
def pairs(request):
    pairs = Pairs(TRANSPORTS[request.param]())
    yield pairs
    pairs.close()


def send(session, size):
    """Send `size` bytes in pieces of odd sizes, finish: the hash."""
    digest = hashlib.sha256()
    left, step = size, 1
    while left:
        piece = CHUNK[: min(left, step % MB + 1)]
        session.sendall(piece)
        digest.update(piece)
        left -= len(piece)
        step = step * 3 + 7 if step < MB else 70_000
    session.finish()
    return digest.hexdigest()


def receive(session):
    """All until the end: size and hash."""
    digest, size = hashlib.sha256(), 0
    while data := session.recv():
        digest.update(data)
        size += len(data)
    return size, digest.hexdigest()


def end(*sessions):
    gevent.joinall([gevent.spawn(session.close) for session in sessions], raise_error=True)
    assert [session.error for session in sessions] == [None] * len(sessions)


def push(session, data):
    """Send `data`, unless that fails: the error."""
    try:
        session.sendall(data)
    except LaneError as error:
        return error


def read_to_error(session):
    try:
        while session.recv():
            pass
    except LaneError as error:
        return error
    raise AssertionError("a broken session looked like a clean end")


@pytest.mark.bulk
def test_64_mb_both_ways_at_once(pairs):
    near, far = pairs.open()
    jobs = [gevent.spawn(send, near, 64 * MB), gevent.spawn(send, far, 64 * MB)]
    results = [gevent.spawn(receive, far), gevent.spawn(receive, near)]
    gevent.joinall(jobs + results, raise_error=True)
    for job, result in zip(jobs, results, strict=True):
        assert result.value == (64 * MB, job.value)
    end(near, far)
    assert pairs.near.registry.budget.used == pairs.far.registry.budget.used == 0


@pytest.mark.parametrize("swap", [False, True], ids=["near", "far"])
def test_half_close_then_10_mb_the_other_way(pairs, swap):
    first, second = pairs.open()[:: -1 if swap else 1]
    first.sendall(b"question")
    first.finish()
    assert receive(second) == (8, hashlib.sha256(b"question").hexdigest())
    job = gevent.spawn(send, second, 10 * MB)
    assert receive(first) == (10 * MB, job.get())
    end(first, second)


def test_a_stream_is_free_after_a_complete_session_and_carries_another(pairs):
    streams = pairs.streams()
    carriers = pairs.carriers[-1]
    for text in (b"one", b"two"):
        near, far = pairs.near.session(streams[0], carriers[0]), pairs.far.session(streams[1], carriers[1])
        near.sendall(text)
        near.finish()
        assert receive(far) == (3, hashlib.sha256(text).hexdigest())
        far.finish()
        assert receive(near)[0] == 0
        end(near, far)
        assert pairs.near.carrying[near].get() == pairs.far.carrying[far].get() == b""


def test_a_stream_is_not_free_after_a_reset(pairs):
    near, far = pairs.open()
    near.sendall(b"begun")
    assert bytes(far.recv()) == b"begun"
    near.reset()
    with pytest.raises(LaneError):
        far.recv()
    for side, session in ((pairs.near, near), (pairs.far, far)):
        session.close()
        assert side.carrying[session].get() is None


@pytest.mark.parametrize("swap", [False, True], ids=["near", "far"])
def test_a_reset_is_an_error_and_never_an_end(pairs, swap):
    first, second = pairs.open()[:: -1 if swap else 1]
    first.sendall(b"begun")
    assert bytes(second.recv()) == b"begun"
    reader, writer = gevent.spawn(read_to_error, second), gevent.spawn(push, second, CHUNK)
    until(lambda: second.send_buffer.retained >= INITIAL_WINDOW)
    first.reset(7)
    assert isinstance(reader.get(), LaneError)
    assert isinstance(writer.get(), LaneError)
    with pytest.raises(LaneError):
        first.recv()
    with pytest.raises(LaneError):
        first.sendall(b"x")


def test_what_came_before_a_reset_is_delivered(pairs):
    near, far = pairs.open()
    near.sendall(b"the last words")
    until(lambda: far.receive_window.held)
    near.reset(7)
    until(lambda: far.error)
    assert bytes(far.recv()) == b"the last words"
    with pytest.raises(Reset) as caught:
        far.recv()
    assert caught.value.code == 7


def move(near, far, size):
    job = gevent.spawn(push, near, bytes(size))
    while size:
        size -= len(far.recv())
    assert job.get() is None


@pytest.mark.bulk
def test_stalled_readers_hold_little_and_hinder_nobody(pairs):
    """What it costs the neighbours is measured by `bench/loopback.py --tests stalled`."""
    stalled = [pairs.open() for _ in range(100)]
    neighbours = pairs.open()
    payload = CHUNK * 100  # one object: what is held more than once is held by the sessions
    before = psutil.Process().memory_info().rss
    writers = [gevent.spawn(push, near, payload) for near, _ in stalled]
    settled(lambda: sum(far.receive_window.received for _, far in stalled))
    assert not any(writer.ready() for writer in writers)
    for near, far in stalled:
        assert 0 < far.receive_window.held <= 512 * 1024
        assert near.send_buffer.retained <= 512 * 1024
    assert psutil.Process().memory_info().rss - before < 100 * 2 * 512 * 1024
    told = [pair[0].receive_window.limit for pair in stalled]
    move(*neighbours, 16 * MB)
    move(*neighbours[::-1], 16 * MB)
    assert not any(writer.ready() for writer in writers)
    assert [pair[0].receive_window.limit for pair in stalled] == told


@pytest.mark.bulk
def test_a_thousand_sessions_one_after_the_other(pairs):
    for number in range(1000):
        near, far = pairs.open()
        near.sendall(b"%d" % number)
        near.finish()
        assert bytes(far.recv()) == b"%d" % number
        far.finish()
        assert near.recv() == far.recv() == b""
        end(near, far)


@pytest.mark.bulk
def test_200_sessions_at_once(pairs):
    opened = [pairs.open() for _ in range(200)]
    jobs = [gevent.spawn(send, near, 50_000 + number) for number, (near, _) in enumerate(opened)]
    results = [gevent.spawn(receive, far) for _, far in opened]
    gevent.joinall(jobs + results, raise_error=True)
    for number, (job, result) in enumerate(zip(jobs, results, strict=True)):
        assert result.value == (50_000 + number, job.value)


def test_death_of_the_carrier_wakes_everybody_with_an_error(pairs):
    near, far = pairs.open()
    far.sendall(b"begun")
    assert bytes(near.recv()) == b"begun"
    readers = [gevent.spawn(read_to_error, session) for session in (near, far)]
    writer = gevent.spawn(push, near, CHUNK)
    far_reader_stalls = readers[1]
    far_reader_stalls.kill()
    until(lambda: near.send_buffer.retained >= INITIAL_WINDOW)
    pairs.carriers[0][1].close()
    assert isinstance(readers[0].get(), Closed)
    assert isinstance(writer.get(), LaneError)
    assert isinstance(read_to_error(far), Closed)


def test_a_peer_that_exceeds_its_window_is_reset(pairs):
    stream, other = pairs.streams()
    far = pairs.far.session(other, pairs.carriers[-1][1])
    step = 32768
    with pytest.raises(LaneError):
        for offset in range(0, INITIAL_WINDOW + 2 * step, step):
            stream.sendall(pack(Data(offset, bytes(step))))
        while stream.recv():
            pass
        raise Closed("the stream ended after a RESET frame")
    assert isinstance(far.error, ProtocolError)
    assert far.receive_window.held <= INITIAL_WINDOW


def test_a_stream_that_ends_early_is_an_error(pairs):
    stream, other = pairs.streams()
    far = pairs.far.session(other, pairs.carriers[-1][1])
    stream.sendall(pack(Data(0, b"half of it")))
    stream.finish()
    assert isinstance(read_to_error(far), Closed)


@pytest.mark.bulk
def test_windows_grow_for_who_uses_them_and_are_given_back(pairs):
    near, far = pairs.open()
    move(near, far, 32 * MB)
    assert far.receive_window.window > INITIAL_WINDOW
    assert pairs.far.registry.budget.used > 0
    far.tick(far.last_data + 11)  # as if it had been idle for long
    until(lambda: far.receive_window.limit <= far.receive_window.received + INITIAL_WINDOW)
    assert far.receive_window.window == INITIAL_WINDOW
    assert pairs.far.registry.budget.used == 0
    move(near, far, 2 * MB)
    assert near.error is far.error is None
