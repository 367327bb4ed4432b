"""Credit by consumption, on engines joined in memory: bounded, growing, and never lost for good."""

import hashlib
import random

import pytest
from aioquic.quic.packet import QuicStreamFrame
from lane_quic.engine import flow_control

from tests.support.quic_pipe import Pipe

DATA = random.Random(3).randbytes(400_000)


def digest(data):
    return hashlib.sha256(data).digest()


@pytest.fixture
def pipe():
    return Pipe().connect()


@pytest.mark.parametrize("streams", [1, 3, 64])
def test_a_stranger_can_make_the_server_hold_64_kb(pipe, streams):
    pipe.server.reads = False
    for _ in range(streams):
        pipe.client.open(bytes(200_000))
    pipe.settle(10)
    held = sum(len(data) for data in pipe.server.data.values())
    assert 60_000 < held <= 65536
    assert pipe.server.granted == 65536


def test_holes_count_as_what_they_could_hold(pipe):
    """One byte at the end of the window is all of the window: the receiver keeps room for it."""
    pipe.server.reads = False
    for _ in range(3):
        number = pipe.client.open()
        sender = pipe.client.engine._streams[number].sender
        sender.get_frame = lambda *_, sender=sender: _last_byte(sender)
        sender.buffer_is_empty = False
    pipe.run(lambda: pipe.server.engine._close_event, seconds=10)
    assert pipe.server.engine._close_event.reason_phrase == "Over connection data limit"


def _last_byte(sender):
    sender.buffer_is_empty = True
    return QuicStreamFrame(data=b"x", offset=65535)


def test_credit_comes_with_reading_and_grows_to_a_maximum(pipe, monkeypatch):
    monkeypatch.setattr(flow_control, "MAX_STREAM_WINDOW", 150_000)
    monkeypatch.setattr(flow_control, "MAX_CONNECTION_WINDOW", 300_000)
    pipe.server.reads = False
    number = pipe.client.open(bytes(3_000_000))
    ahead = []
    while len(pipe.server.data[number]) < 3_000_000:
        pipe.settle(2)
        assert pipe.server.unread[number], "stalled"
        ahead.append(pipe.server.unread[number])
        pipe.server.read(number)
    assert ahead[0] <= 65536
    assert max(ahead) <= 150_000
    assert ahead[1] > 100_000, "who reads is sent more"


def test_nothing_read_gives_nothing(pipe):
    pipe.server.reads = False
    first, second = pipe.client.open(DATA), pipe.client.open(DATA)
    pipe.settle(5)
    before = pipe.server.granted
    held = len(pipe.server.data[second])
    pipe.server.read(first)
    pipe.settle(5)
    assert pipe.server.granted > before
    assert len(pipe.server.data[second]) - held <= pipe.server.granted - before


@pytest.mark.bulk
def test_streams_that_are_reset_at_any_stage_give_their_credit_back(pipe):
    """50 MB of streams through a window of 64 KB: one that kept its credit would stall all the others."""
    chance = random.Random(4)
    for _ in range(1000):
        pipe.server.reads = chance.random() < 0.5
        pipe.run(lambda: pipe.client.engine.capacity)
        number = pipe.client.open(bytes(50_000), end=chance.random() < 0.5)
        for _ in range(chance.randrange(8)):
            pipe.step(pipe.now + 0.03)
        if chance.random() < 0.5:
            pipe.run(lambda number=number: number in pipe.server.data)
            pipe.server.abandon(number)
        pipe.client.abandon(number)
    pipe.server.reads = True
    number = pipe.client.open(DATA, end=True)
    pipe.run(lambda: number in pipe.server.ends)
    assert digest(pipe.server.data[number]) == digest(DATA)
    pipe.settle(1)
    assert pipe.server.engine._consumed == pipe.server.engine._local_max_data.used
    assert pipe.server.engine.abandoned == {}
    assert list(pipe.server.engine._streams) == [number]


def test_a_stream_abandoned_before_its_data_came(pipe):
    pipe.server.reads = False
    numbers = [pipe.client.open(DATA) for _ in range(4)]
    pipe.run(lambda: len(pipe.server.data) == 4)
    for number in numbers:
        pipe.server.abandon(number)
    pipe.settle(5)
    assert pipe.server.engine._consumed == pipe.server.engine._local_max_data.used


@pytest.mark.parametrize(
    "trouble",
    [
        {"loss": 0.2},
        {"loss": 0.2, "seed": 9},
        {"jitter": 0.05},
        {"twice": 0.3},
        {"loss": 0.1, "twice": 0.1, "jitter": 0.03},
    ],
    ids=["loss", "loss again", "reordering", "duplication", "all"],
)
def test_bad_paths_lose_nothing(trouble):
    pipe = Pipe(**trouble).connect()
    numbers = [pipe.client.open(DATA, end=True) for _ in range(3)]
    pipe.run(lambda: set(numbers) <= set(pipe.server.data))
    for number in numbers:
        pipe.server.engine.send_stream_data(number, DATA, True)
    pipe.run(lambda: pipe.server.ends >= set(numbers) and pipe.client.ends >= set(numbers))
    for number in numbers:
        assert digest(pipe.server.data[number]) == digest(pipe.client.data[number]) == digest(DATA)
    pipe.run(lambda: pipe.client.engine.drained() and pipe.server.engine.drained())
    assert pipe.client.engine.stats().loss > 0 or not trouble.get("loss")


@pytest.mark.parametrize("tight", ["MAX_STREAM_WINDOW", "MAX_CONNECTION_WINDOW"])
def test_updates_of_limits_that_are_lost_are_repeated(monkeypatch, tight):
    """Everything that the server says is dropped for a while, credit included, again and again."""
    monkeypatch.setattr(flow_control, tight, 65536)
    pipe = Pipe().connect()
    number = pipe.client.open(DATA * 3, end=True)
    ours = set(pipe.server.engine.host_cids)
    rounds = 0
    while number not in pipe.server.ends:
        pipe.dropped = lambda datagram: datagram[1:9] not in ours
        pipe.settle(0.2)
        pipe.dropped = lambda datagram: False
        pipe.settle(0.2)
        rounds += 1
        assert rounds < 100, "stalled"
    assert rounds >= 3
    assert digest(pipe.server.data[number]) == digest(DATA * 3)


def test_the_limit_of_streams_is_repeated_when_it_is_lost():
    pipe = Pipe(loss=0.25, seed=2).connect()
    done = 0
    while done < 300:
        while pipe.client.engine.capacity:
            done = pipe.client.open(b"x", end=True) // 4
        waiting = [n for n in pipe.server.data if n in pipe.server.ends and pipe.server.engine.knows(n)]
        for number in waiting:
            if pipe.server.engine._streams[number].sender._buffer_fin is None:
                pipe.server.engine.send_stream_data(number, b"", True)
        pipe.step(pipe.now + 0.1)
    assert pipe.client.ended is None


@pytest.mark.parametrize("code", [0, 2**32, 2**62 - 1])
def test_resets_and_stops_carry_any_code(pipe, code):
    first, second, third = (pipe.client.open(b"x") for _ in range(3))
    pipe.client.engine.reset_stream(first, code)
    pipe.client.engine.stop_stream(second, code)
    pipe.client.engine.send_stream_data(third, b"", True)
    pipe.run(lambda: pipe.server.resets and pipe.server.stops and third in pipe.server.ends)
    assert pipe.server.resets[first] == pipe.server.stops[second] == code
    assert second not in pipe.server.resets


def test_what_was_written_and_reset_is_not_unsent(pipe):
    number = pipe.client.open(bytes(500_000))
    assert pipe.client.engine.unsent(number) == 500_000
    pipe.settle(0.1)
    assert 0 < pipe.client.engine.unsent(number) < 500_000
    pipe.client.engine.reset_stream(number, 1)
    assert pipe.client.engine.unsent(number) == 0
    assert pipe.client.engine.unsent(4000) == 0
