"""Streams of a QUIC carrier: how they end, what they hold, and how many there may be."""

import weakref

import gevent
import pytest
from lane_quic.engine.flow_control import STREAMS
from lane_quic.plugin import QuicTransport
from lane_quic.stream import SMALL_CHUNK

from lane.errors import Closed, Reset
from lane.stream import Address
from lane.testing.harness import Kit, outcome, read_all, read_to_error, settled, until
from tests.support.quic_endpoints import exchange


@pytest.fixture
def kit():
    with gevent.Timeout(30, AssertionError("the test hangs")):
        kit = Kit(QuicTransport(), Address("127.0.0.1", 0))
        try:
            yield kit
        finally:
            kit.close()


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (7, 7), (2**32 - 1, 2**32 - 1), (2**62 - 1, 2**32 - 1)])
def test_codes_of_resets(kit, code, seen):
    near, far = kit.stream()
    near._engine.reset_stream(near.id, code)
    near._carrier.flush()
    error = read_to_error(far)
    assert isinstance(error, Reset)
    assert error.code == seen


def test_a_reset_ends_both_directions(kit):
    near, far = kit.stream()
    near._engine.reset_stream(near.id, 9)  # as a peer does that has only one direction to end
    near._carrier.flush()
    assert isinstance(read_to_error(far), Reset)
    assert isinstance(outcome(far.sendall, b"x"), Reset)
    assert isinstance(read_to_error(near), Reset)


@pytest.mark.parametrize("code", [0, 2**62 - 1])
def test_a_peer_that_only_reads_no_more(kit, code):
    near, far = kit.stream()
    peer = kit.last[0]
    peer.forget(near)  # whose end is a foreign one from here on
    peer.engine.stop_stream(near.id, code)
    peer.engine.send_stream_data(near.id, b"but goes on talking", True)
    peer.flush()
    until(lambda: far._stopped)
    error = outcome(far.sendall, b"x")
    assert isinstance(error, Reset)
    assert error.code == code & 0xFFFFFFFF
    assert read_all(far) == b"but goes on talking"
    far.finish()
    far.close()
    exchange(*kit.last)


def test_a_stream_that_is_used_again_waits_for_acknowledgements_and_hurries_others(kit, monkeypatch):
    near, far = kit.stream()
    carrier, hurried = kit.last[0], []
    monkeypatch.setattr(carrier, "hurry", hurried.append)
    until(near.renew)
    hurried.clear()
    near.sendall(b"the last bytes")
    assert not near.renew()
    assert not hurried
    until(near.renew)
    assert len(hurried) == 1
    far.sendall(b"more than was asked for")
    until(lambda: near._unread)
    assert not near.renew()
    near.finish()
    assert not near.renew()
    assert len(hurried) == 1


def test_a_writer_that_is_blocked_learns_that_nobody_reads(kit):
    near, far = kit.stream()
    writing = gevent.spawn(outcome, far.sendall, bytes(8 << 20))
    settled(lambda: near._unread)
    assert not writing.ready()
    near._engine.stop_stream(near.id, 3)
    near._carrier.flush()
    assert isinstance(writing.get(), Reset)
    far.finish()
    assert isinstance(outcome(far.sendall, b"x"), Closed)


def test_a_stream_that_is_reset_before_any_data(kit):
    near, far = kit.dial()
    near.open().reset(5)
    other = far.accept()
    error = read_to_error(other)
    assert isinstance(error, Reset)
    assert error.code == 5
    other.close()
    exchange(near, far)


def test_a_stream_that_ends_without_data(kit):
    near, far = kit.dial()
    stream = near.open()
    stream.finish()
    other = far.accept()
    assert other.recv() == b""
    other.finish()
    assert stream.recv() == b""
    until(lambda: not near.engine.knows(stream.id))
    assert not near._streams
    until(lambda: not far._streams)


def test_what_a_connection_had_under_way_is_freed_at_its_end(kit):
    near, far = kit.dial()
    streams = [near.open() for _ in range(8)]
    for stream in streams:
        stream.sendall(bytes(20_000))
    engine = near.engine
    kept = weakref.ref(engine.streams[streams[0].id].sender)
    assert any(space.sent_packets for space in engine.spaces.values())
    near.shut("the end")
    until(lambda: kept() is None)
    assert not engine.streams
    assert not any(space.sent_packets for space in engine.spaces.values())
    for stream in streams:
        assert isinstance(outcome(stream.sendall, b"x"), Closed)
        stream.close()
    until(lambda: far.closed)


def test_as_many_streams_as_a_carrier_takes_and_more_after_some_ended(kit):
    near, far = kit.dial()
    streams = [near.open() for _ in range(STREAMS)]
    for stream in streams:
        stream.sendall(b"x")
    assert near.capacity == 0
    with pytest.raises(Closed, match="no more streams"):
        near.open()
    others = [far.accept() for _ in range(STREAMS)]
    for stream, other in zip(streams[:10], others[:10], strict=True):
        stream.finish()
        other.finish()
    until(lambda: near.capacity == 10)
    with pytest.raises(Closed, match="no more streams"):
        far.open()
    exchange(near, far)


def test_a_sender_is_held_to_what_is_read(kit):
    near, far = kit.dial()
    writers = []
    for _ in range(4):
        stream = near.open()
        writers.append(gevent.spawn(outcome, stream.sendall, bytes(1 << 20)))
    others = [far.accept() for _ in range(4)]
    assert 0 < settled(lambda: sum(other._unread for other in others)) <= 65536
    assert not any(writer.ready() for writer in writers)
    sizes = [0] * 4

    def read(index):
        while sizes[index] < 1 << 20:
            sizes[index] += len(others[index].recv())

    gevent.joinall([gevent.spawn(read, index) for index in range(4)], raise_error=True)
    assert [writer.get() for writer in writers] == [None] * 4


@pytest.mark.parametrize("swap", [False, True], ids=["client", "server"])
def test_resets_in_the_middle_of_everything_do_not_stall_a_connection(kit, swap):
    near, far = kit.dial()
    for number in range(200):
        until(lambda: near.capacity)
        opened = near.open()
        writing = gevent.spawn(outcome, opened.sendall, bytes(50_000))
        accepted = far.accept() if number % 5 else None  # some are reset before they were accepted
        if accepted and number % 3:
            accepted.recv(number * 100 + 1)
        ends = [end for end in (opened, accepted)[:: -1 if swap else 1] if end]
        ends[0].reset(number)
        if not accepted:
            accepted = far.accept() if opened._engine.knows(opened.id) else None
        for end in ends:
            end.close()
        if accepted:
            accepted.close()
        writing.get()
    exchange(near, far)


def test_many_small_pieces_do_not_cost_more_than_their_bytes(kit):
    near, far = kit.stream()
    for _ in range(1000):
        near.sendall(b"ab")
        near._carrier.flush()
    until(lambda: far._unread == 2000)
    assert len(far._chunks) <= 2 * 2000 / SMALL_CHUNK + 1
    assert [far.recv(3), far.recv(2)] == [b"aba", b"ba"]
    near.finish()
    assert read_all(far) == b"b" + b"ab" * 997


def test_what_is_never_read_of_a_stream_that_is_over_is_given_back(kit):
    near, far = kit.stream()
    engine = kit.last[1].engine
    near.sendall(bytes(5000))
    near.finish()
    far.finish()
    until(lambda: far._eof and not engine.knows(far.id))
    assert engine._consumed == 1
    far.close()
    assert engine._consumed == engine._local_max_data.used == 5001


def test_one_direction_is_aborted_past_what_waits_and_the_other_goes_on(kit):
    near, far = kit.stream()
    carriers = near._carrier, far._carrier
    flood = gevent.spawn(outcome, near.sendall, bytes(50 << 20))
    until(lambda: near in near._carrier.waiting)
    far.sendall(b"still")
    until(lambda: near._unread)
    near.abort_sending(7)
    assert isinstance(flood.get(), Closed), "who was blocked is woken"
    assert near.recv() == b"still"
    error = read_to_error(far)
    assert isinstance(error, Reset)
    assert error.code == 7
    assert isinstance(read_to_error(near), Reset), "which is how the other side hears that it was heard"
    near.abort_sending(8)
    near.finish()
    near.reset()
    until(lambda: not any(carrier._streams for carrier in carriers))


def test_what_is_not_sent_yet_is_no_matter_to_a_code(kit):
    """Everything is lost for a while: the code of a reset is sent again until it arrives, all else is not."""
    near, far = kit.stream()
    send, lost = near._carrier._send, []
    near._carrier._send = lost.extend
    near.sendall(b"RESET")
    near.finish()
    near._carrier.flush()
    near.abort_sending(7)
    near._carrier.flush()
    assert lost
    near._carrier._send = send
    assert read_to_error(far).code == 7


def test_a_whole_direction_is_delivered_though_it_is_reset_afterwards(kit):
    near, far = kit.stream()
    near.sendall(b"all of it")
    near.finish()
    until(lambda: far._eof)
    near.reset(9)
    until(lambda: far._stopped)
    assert read_all(far) == b"all of it"
    assert outcome(far.sendall, b"x").code == 9
