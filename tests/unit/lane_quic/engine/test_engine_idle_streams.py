"""Streams that have nothing to say cost nothing: beside a busy one nobody looks at them, whatever it does,
and each of them is asked again as soon as it has something to say. (`Pipe` looks after each flush that no
stream was forgotten.)"""

import pytest
from aioquic.quic.stream import QuicStream
from lane_quic.engine.flow_control import STREAMS

from tests.support.quic_pipe import Pipe

pytestmark = pytest.mark.bulk


@pytest.fixture
def pipe(request):
    """Two sides with so many streams that have spoken and wait."""
    pipe = Pipe(**getattr(request, "param", {})).connect()
    pipe.streams = [pipe.client.open(b"hello") for _ in range(STREAMS)]
    pipe.run(lambda: all(pipe.server.data[number] for number in pipe.streams))
    for number in pipe.streams:
        pipe.server.engine.send_stream_data(number, bytes(3000))
    pipe.run(lambda: all(len(pipe.client.data[number]) == 3000 for number in pipe.streams))
    pipe.settle(5)
    return pipe


def watch(pipe, numbers):
    """From now on what streams are asked for is noted: all of that, with the side."""
    pipe.checked = False  # it looks at all of them
    asked = []
    for side in (pipe.client, pipe.server):

        class Watched(QuicStream):
            def __getattribute__(self, name, side=side):
                asked.append((side is pipe.client, name))
                return super().__getattribute__(name)

        for number in numbers:
            side.engine._streams[number].__class__ = Watched
    return asked


LINKS = [{}, {"fast": False}, {"loss": 0.05}, {"loss": 0.05, "fast": False}]


@pytest.mark.parametrize("pipe", LINKS, indirect=True)
@pytest.mark.parametrize("way", ["up", "down"])
def test_beside_a_bulk_nobody_looks_at_idle_streams(pipe, way):
    busy, *idle = pipe.streams
    asked = watch(pipe, idle)
    here, there = (pipe.client, pipe.server) if way == "up" else (pipe.server, pipe.client)
    before = len(there.data[busy])
    for _ in range(10):
        here.engine.send_stream_data(busy, bytes(50_000))
        pipe.run(lambda: not here.engine.unsent(busy))
        there.engine.send_stream_data(busy, b"a word back")
    pipe.run(lambda: len(there.data[busy]) == before + 500_000)
    assert not asked


def test_streams_that_have_nothing_to_say_stand_in_no_queue(pipe):
    pipe.client.engine.send_stream_data(pipe.streams[5], b"more")
    pipe.run(pipe.client.engine.drained)
    pipe.settle(1)
    for engine in (pipe.client.engine, pipe.server.engine):
        assert not engine.gather_streams()
        assert not engine._tails


def test_those_that_wake_are_served_behind_those_that_wait(pipe):
    engine, numbers = pipe.client.engine, [pipe.streams[index] for index in (7, 3, 9)]
    for number in numbers:
        engine.send_stream_data(number, bytes(100))
    assert [stream.stream_id for stream in engine.gather_streams()] == numbers
    for number in (3, 9, 1):
        engine.send_stream_data(pipe.streams[number], bytes(100))
    assert [stream.stream_id for stream in engine.gather_streams()] == [*numbers, pipe.streams[1]]


def test_what_was_lost_wakes_its_stream(pipe):
    """Data, an end, a reset, a wish to read no more: of each the only packet is lost."""
    client, side, numbers = pipe.client.engine, pipe.server, pipe.streams
    for act in (
        lambda: client.send_stream_data(numbers[0], b"data"),
        lambda: client.send_stream_data(numbers[1], b"", True),
        lambda: client.reset_stream(numbers[2], 7),
        lambda: client.stop_stream(numbers[3], 8),
    ):
        act()
        pipe.dropped = lambda datagram: True
        pipe.settle(0.01)
        assert not client.gather_streams(), "it was said"
        pipe.dropped = lambda datagram: False
        pipe.settle(2)
    assert side.data[numbers[0]] == b"hellodata"
    assert numbers[1] in side.ends
    assert side.resets[numbers[2]] == 7
    assert numbers[3] in side.stops


@pytest.mark.parametrize("pause", [0, 3])
def test_a_stream_that_has_ended_is_dropped_and_its_place_given_to_another(pipe, pause):
    number = pipe.streams[0]
    assert not pipe.client.engine.capacity
    for side in (pipe.client, pipe.server):
        side.engine.send_stream_data(number, b"", True)
        pipe.settle(pause)
    pipe.run(lambda: not pipe.client.engine.knows(number) and not pipe.server.engine.knows(number), 5)
    pipe.run(lambda: pipe.client.engine.capacity, 5)
