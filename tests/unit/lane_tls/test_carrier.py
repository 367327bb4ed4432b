"""A TLS stream and its carrier: ends, damage, fairness, and what the kernel tells of the link."""

import socket as real_socket
from time import monotonic, perf_counter

import gevent
import pytest
from gevent import socket
from gevent.pool import Pool
from lane_tls import connection, fair_rates
from lane_tls.carrier import TLSCarrier
from lane_tls.plugin import TLSTransport
from lane_tls.stream import TLSStream
from OpenSSL import SSL

from lane.errors import Closed, ProtocolError, Reset
from lane.testing.harness import outcome, until
from tests.support.tls_peer import CLIENT, foreign_client


def test_data_and_an_end_in_one_segment(pair):
    foreign, stream = pair
    foreign.send(b"question", flush=False)
    foreign.finish()
    assert stream.recv() == b"question"
    assert [stream.recv(), stream.recv()] == [b"", b""]
    stream.sendall(b"answer")
    stream.finish()
    assert [foreign.recv(), foreign.recv()] == [b"answer", b""]


def test_our_end_leaves_the_other_direction(pair):
    foreign, stream = pair
    stream.finish()
    assert foreign.recv() == b""
    foreign.send(b"more")
    assert stream.recv() == b"more"


def test_a_connection_cut_short_is_no_end(pair):
    foreign, stream = pair
    foreign.send(b"half")
    foreign.fin()
    assert stream.recv() == b"half"
    for _ in range(2):
        with pytest.raises(Closed, match="cut short"):
            stream.recv()
    with pytest.raises(Closed):
        stream.sendall(b"x")


def test_a_cut_record_is_no_end(pair):
    foreign, stream = pair
    foreign.send(b"x" * 1000, flush=False)
    foreign.sock.sendall(foreign._out.read()[:500])
    foreign.fin()
    with pytest.raises(Closed, match="cut short"):
        stream.recv()


def test_a_reset_is_known_as_one(pair):
    foreign, stream = pair
    foreign.abort()
    with pytest.raises(Reset):
        stream.recv()


def test_damaged_records_end_the_connection(pair):
    foreign, stream = pair
    foreign.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(Closed, match=r"TLS failed: .*bad record mac"):
        stream.recv()


def test_an_error_behind_data_is_not_lost(pair):
    foreign, stream = pair
    foreign.send(b"data", flush=False)
    foreign.sock.sendall(foreign._out.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert stream.recv() == b"data"
    with pytest.raises(Closed):
        stream.recv()


def test_two_readers_are_an_error_of_the_second(pair):
    foreign, stream = pair
    reading = gevent.spawn(stream.recv)
    until(lambda: stream._readable.callback)
    with pytest.raises(Closed, match="two greenlets"):
        stream.recv()
    foreign.send(b"for the first")
    assert reading.get() == b"for the first"


def test_an_idle_server_carrier_sees_a_polite_goodbye(listener):
    foreign = foreign_client(listener)
    carrier = listener.accept()
    assert not carrier.closed
    foreign.finish()
    until(lambda: carrier.closed)
    assert carrier.accept().recv() == b""
    foreign.sock.close()
    carrier.close()


def test_waiting_data_is_no_sign_of_death(listener):
    foreign = foreign_client(listener)
    carrier = listener.accept()
    foreign.send(b"request")
    gevent.sleep(0.01)
    assert not carrier.closed
    stream = carrier.accept()
    assert not carrier.closed
    assert stream.recv() == b"request"
    foreign.abort()
    until(lambda: carrier.closed)
    with pytest.raises(Closed):
        stream.recv()
    stream.close()


def test_damage_on_an_idle_carrier_is_seen(listener):
    foreign = foreign_client(listener)
    carrier = listener.accept()
    foreign.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    until(lambda: carrier.closed)
    foreign.sock.close()
    carrier.close()


# --- what only scripted records can show


class Scripted:
    """`Records` that answer with what a test wrote down; the last answer again and again."""

    def __init__(self, holds=True, **script):
        self.holds = holds
        self.script = {"flush": [True], "read": [b""], "unread": [False], **script}
        self.connection = self
        self.lacks, self.ended = 0, False

    def __getattr__(self, name):
        def call(*arguments):
            steps = self.script.get(name, [None])
            step = steps.pop(0) if len(steps) > 1 else steps[0]
            if isinstance(step, Exception):
                raise step
            return step(*arguments) if callable(step) else step

        return call


@pytest.fixture
def scripted(monkeypatch):
    here, there = socket.socketpair()
    streams = []

    def make(**script):
        monkeypatch.setattr("lane_tls.connection.Records", lambda *_: Scripted(**script))
        streams.append(TLSStream(None, here, False))
        return streams[-1], there

    yield make
    for stream in streams:
        stream.abandon()
    there.close()


def test_a_handshake_waits_for_room(scripted):
    flushes = [False, False, True]
    stream, there = scripted(handshake=[False, True], flush=flushes)
    there.send(b"an answer")
    stream.handshake()
    assert flushes == [True]


def test_the_handshake_ends_also_without_data(listener):
    """Its last packets wait for the first data, but not for long."""
    near = TLSTransport().dial(listener.address, CLIENT)
    far = listener.accept()
    near.close()
    far.close()


def test_a_sender_waits_for_room(scripted):
    flushes, written = [False, False, True], []
    stream, _ = scripted(write=[lambda _, view: written.append(bytes(view[:3])) or 3], flush=flushes)
    stream.sendall(b"12345")
    assert (flushes, written) == ([True], [b"123", b"45"])


def test_an_end_waits_for_room(scripted):
    flushes = [False, False, True]
    stream, _ = scripted(flush=flushes)
    stream.finish()
    assert stream.finished
    assert flushes == [True]


def test_an_end_that_can_not_be_told_is_an_error(scripted):
    stream, _ = scripted(flush=[OSError(32, "EPIPE")])
    with pytest.raises(Reset):
        stream.finish()


def test_what_fails_for_the_reader_wakes_the_writer(scripted):
    stream, _ = scripted(read=[Closed("cut short")], write=[lambda _, view: len(view)], flush=[False])
    with pytest.raises(BlockingIOError):
        while True:
            stream.sock.send(bytes(65536))  # never writable again
    writing = gevent.spawn(outcome, stream.sendall, b"data")
    until(lambda: stream._writable.callback)
    with pytest.raises(Closed, match="cut short"):
        stream.recv()
    assert isinstance(writing.get(), Closed)


def test_close_lingers_until_the_end_is_sent(scripted):
    flushes = [False, False, True]
    stream, there = scripted(flush=flushes)
    reading = gevent.spawn(outcome, stream.recv)
    until(lambda: stream._readable.callback)
    stream.close()
    assert stream.dead.is_set()
    with pytest.raises(Closed):
        stream.sendall(b"late")
    assert isinstance(reading.get(), Closed)
    assert there.recv(1) == b"", "the socket is closed in the end"
    assert flushes == [True]


@pytest.mark.parametrize("then", ["end", "hang up", "data", "nothing", "reset"])
def test_close_lingers_until_the_peer_has_ended(pair, monkeypatch, then):
    monkeypatch.setattr(connection, "_LINGER", 0.05 if then == "nothing" else 60.0)
    foreign, stream = pair
    stream.close()
    TLSCarrier(stream, bytes(32), "127.0.0.1", dialled=False).close()
    assert stream.sock.fileno() >= 0
    if then == "reset":
        stream.reset()
    elif then == "end":
        foreign.finish()
    elif then == "data":
        foreign.send(b"late")
    elif then == "hang up":
        foreign.sock.close()
    until(lambda: stream.sock.fileno() < 0)


def test_no_more_linger_than_may(pair, listener, monkeypatch):
    monkeypatch.setattr(connection, "_lingering", Pool(1))
    _, stream = pair
    other = foreign_client(listener)
    second = listener.accept().accept()
    stream.close()
    second.close()
    assert (stream.sock.fileno() < 0, second.sock.fileno() < 0) == (False, True)
    other.sock.close()


def test_close_says_no_end_after_a_cut_sendall(scripted):
    said = []
    write, shutdown = [lambda _, view: len(view)], [lambda: said.append(1)]
    stream, there = scripted(write=write, flush=[False], shutdown=shutdown)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
        stream.sendall(b"half of it")
    with pytest.raises(Closed, match="not completed"):
        stream.finish()
    stream.close()
    assert (there.recv(1), said) == (b"", [])


def test_close_when_nobody_can_be_told(scripted):
    stream, there = scripted(flush=[OSError(110, "ETIMEDOUT")])
    stream.close()
    with pytest.raises(Closed, match="timed out"):
        stream.recv()
    assert there.recv(1) == b""


def busy(result):
    """Half a millisecond of work: four make a quantum."""
    end = perf_counter() + 0.0005
    while perf_counter() < end:
        pass
    return result


@pytest.fixture
def turns():
    """How often another greenlet had its turn."""
    count = 0

    def tick():
        nonlocal count
        while True:
            gevent.sleep(0.001)
            count += 1

    ticking = gevent.spawn(tick)
    gevent.sleep(0.002)
    yield lambda: count
    ticking.kill()


def test_a_sender_that_never_blocks_lets_others_run(scripted, turns):
    stream, _ = scripted(write=[lambda _, view: busy(min(len(view), 131072))])
    before = turns()
    stream.sendall(bytes(131072 * 200))
    assert turns() - before >= 10


def test_a_reader_that_never_blocks_lets_others_run(scripted, turns):
    stream, there = scripted(read=[lambda limit: busy(bytes(limit))], holds=False)
    there.sendall(b"always readable")
    before = turns()
    for _ in range(100):
        assert len(stream.recv()) == 262144
    assert turns() - before >= 5


def test_what_is_held_is_read_without_waiting(pair):
    foreign, stream = pair
    foreign.send(b"a" * 16384, flush=False)
    foreign.send(b"b" * 16384)
    got = stream.recv(10)
    while len(got) < 2 * 16384:
        stream._since -= 1  # a turn is due, but the socket will not be readable again
        got += stream.recv(1000)
    assert got == b"a" * 16384 + b"b" * 16384


def test_an_unknown_error_has_words(scripted):
    stream, _ = scripted(handshake=[SSL.Error()])
    with pytest.raises(ProtocolError, match="unknown error"):
        stream.handshake()


# --- what the kernel tells


def test_figures_of_a_real_connection(pair):
    foreign, stream = pair
    carrier = TLSCarrier(stream, bytes(32), "127.0.0.1", dialled=False)
    stream.sendall(bytes(100_000))
    received = 0
    while received < 100_000:
        received += len(foreign.recv())
    until(lambda: carrier.stats().delivered > 100_000)
    stats = carrier.stats()
    assert stats.rtt > 0
    assert 0 <= stats.loss < 1
    assert stats.measured_at <= monotonic()
    stream.reset()
    assert carrier.stats().rtt is None


def test_buffers_are_left_to_the_kernel(pair):
    _, stream = pair
    with real_socket.create_server(("127.0.0.1", 0)) as server:
        with real_socket.create_connection(server.getsockname()):
            untouched, _ = server.accept()
        with untouched:
            option = (socket.SOL_SOCKET, socket.SO_SNDBUF)
            assert stream.sock.getsockopt(*option) == untouched.getsockopt(*option)
    assert stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_server_paces_a_carrier_that_has_more_to_send_than_goes(listener):
    foreign = foreign_client(listener)
    carrier = listener.accept()
    stream = carrier.accept()

    def pacing():
        return int.from_bytes(stream.sock.getsockopt(socket.SOL_SOCKET, fair_rates.PACING, 4), "little")

    carrier.belong("ann")
    assert (stream.user, carrier.has_more) == ("ann", False)
    writer = gevent.spawn(outcome, stream.sendall, bytes(64 << 20))
    until(lambda: carrier.has_more)
    carrier.pace(1e6)
    assert pacing() == 1_000_000
    stream.cap = 5000  # as `fair_rates` may have it
    fair_rates.apply(stream)
    assert pacing() == 5000
    carrier.pace(1.0)
    assert pacing() == fair_rates.LEAST_SHARE
    stream.cap = fair_rates.UNLIMITED
    carrier.pace(None)
    assert pacing() == fair_rates.UNLIMITED
    foreign.sock.close()
    writer.join()
    carrier.close()
    assert not carrier.has_more
    carrier.pace(1e6)  # too late, which is no error
