"""Datagrams of a connection: their size, their bounds, and their place beside streams."""

import inspect
import random

import pytest
from aioquic.buffer import size_uint_var
from aioquic.quic.connection import QuicConnection
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.configuration import client_configuration
from lane_quic.congestion.bbr import Bbr
from lane_quic.engine.datagrams import (
    COST,
    SHARE,
    UNASKED_MOST,
    UNREAD_MOST,
    UNSENT_LEAST,
    UNSENT_MOST,
    DatagramQueue,
)
from lane_quic.engine.engine import Engine

from tests.support.quic_pipe import Pipe

both_paths = pytest.mark.parametrize("fast", [True, False], ids=["fast", "aioquic"])


class Paced:
    """Sends at a fixed rate within a fixed window, whatever happens."""

    pacing_rate = 1e6

    def __init__(self, datagram_size, window=1 << 24):
        self.window = window

    def on_sent(self, packet, in_flight):
        pass

    def on_sample(self, sample):
        pass


def quiet(fast=True, control=Paced, **options):
    """A pipe on which all is said."""
    pipe = Pipe(fast=fast, control=control, **options).connect()
    pipe.settle(1)
    return pipe


def sizes(pipe, side):
    """Packets that leave now: their sizes."""
    pipe.flush()
    return [len(entry[-1]) for entry in pipe._wire if entry[2] is side]


def numbered(count, size=100):
    return [number.to_bytes(size, "big") for number in range(count)]


def test_what_aioquic_does_with_its_queue():
    text = inspect.getsource(QuicConnection._write_application)
    for use in ("while {}:", "data={}[0]", "{}.popleft()"):
        assert text.count(use.format("self._datagrams_pending")) == 1, "look at lane_quic/datagrams.py"
    assert text.index("_datagrams_pending") < text.index("for stream in self._streams_queue")
    assert inspect.getsource(QuicConnection).count("_datagrams_pending") == 1 + 1 + 3


@both_paths
@pytest.mark.parametrize("size", [1200, 1452])
@pytest.mark.parametrize("swap", [False, True], ids=["client", "server"])
def test_the_largest_fills_a_packet_exactly(size, fast, swap):
    pipe = quiet(fast)
    near, far = (pipe.server, pipe.client) if swap else (pipe.client, pipe.server)
    near.engine._resize(size)
    datagrams = near.engine.datagrams
    largest = datagrams.max_size
    assert datagrams.send(bytes(largest))
    assert not datagrams.send(bytes(largest + 1))
    assert datagrams.counts()["datagrams_too_large"] == 1
    assert sizes(pipe, far)[0] == size
    pipe.settle(0.1)
    assert far.datagrams == [bytes(largest)]


def test_the_peers_limit_counts_the_whole_frame():
    engine = Engine(client_configuration(None))
    ours = 1200 - 22 - len(engine._peer_cid.cid)
    for limit in [*range(100), *range(ours - 5, ours + 10), 65536]:
        engine._remote_max_datagram_frame_size = limit
        fitting = [n for n in range(1300) if 1 + size_uint_var(n) + n <= limit]
        assert engine.datagrams.max_size == min(max(fitting, default=0), ours)


def test_a_peer_that_takes_none():
    engine = Engine(client_configuration(None))
    assert engine._remote_max_datagram_frame_size is None
    assert engine.datagrams.max_size == 0
    assert not engine.datagrams.send(b"x")


@both_paths
def test_what_became_too_large_does_not_block_the_rest(fast):
    pipe = quiet(fast)
    engine = pipe.client.engine
    engine._resize(1452)
    engine._loss.controller.window = 0
    small, large = numbered(20), numbered(20, engine.datagrams.max_size)
    for pair in zip(large, small, strict=True):
        for data in pair:
            assert engine.datagrams.send(data)
    pipe.settle(0.1)
    assert pipe.server.datagrams == []
    engine._resize(1200)
    engine._loss.controller.window = 1 << 24
    pipe.settle(1)
    assert pipe.server.datagrams == small
    assert engine.datagrams.counts()["datagrams_too_large"] == len(large)
    assert engine.datagrams.outgoing.size == 0


@both_paths
def test_a_black_hole_in_mid_transfer(fast):
    pipe = quiet(fast, control=Bbr)
    datagrams = pipe.client.engine.datagrams
    datagrams.send(b"now look for larger packets")
    pipe.settle(1)
    assert datagrams.max_size == 1452 - 30
    pipe.dropped = lambda datagram: len(datagram) > 1200
    pipe.server.datagrams.clear()
    for number in range(2000):
        assert datagrams.send(number.to_bytes(datagrams.max_size, "big"))
        pipe.settle(0.002)
    assert datagrams.max_size == 1200 - 30
    assert len(pipe.server.datagrams) > 1500


@both_paths
def test_the_newest_push_out_the_oldest(fast):
    pipe = quiet(fast)
    engine = pipe.client.engine
    engine._loss.controller.window = 0
    sent = numbered(3000, 1000)
    for data in sent:
        assert engine.datagrams.send(data)
        assert engine.datagrams.outgoing.size <= UNSENT_MOST
    engine._loss.controller.window = 1 << 24
    pipe.settle(2)
    kept = len(pipe.server.datagrams)
    assert pipe.server.datagrams == sent[-kept:]
    assert 0 < kept < 0.1 * Paced.pacing_rate / 1000
    counts = engine.datagrams.counts()
    assert (counts["datagrams_sent"], counts["datagrams_dropped_out"]) == (kept, len(sent) - kept)


@pytest.mark.parametrize(
    ("rate", "most"), [(None, UNSENT_MOST), (1e4, UNSENT_LEAST), (1e6, 1e5), (1e9, UNSENT_MOST)]
)
def test_no_more_waits_than_a_tenth_of_a_second_takes(rate, most):
    pipe = quiet()
    engine = pipe.client.engine
    engine._loss.controller.window, engine._loss.pacer.rate = 0, rate
    for data in numbered(4000, 200):
        engine.datagrams.send(data)
    assert most - 300 < engine.datagrams.outgoing.size <= most


def test_what_nobody_reads_is_bounded_and_fresh():
    datagrams = Engine(client_configuration(None)).datagrams
    for data in numbered(20_000):
        datagrams.received(data)
    assert UNASKED_MOST - 200 < datagrams._incoming.size <= UNASKED_MOST
    first = int.from_bytes(datagrams.recv(), "big")
    assert first == 20_000 - len(datagrams._incoming) - 1
    for data in numbered(20_000):
        datagrams.received(data)
    assert UNREAD_MOST - 200 < datagrams._incoming.size <= UNREAD_MOST
    assert datagrams._incoming[-1] == numbered(20_000)[-1]
    counts = datagrams.counts()
    assert counts["datagrams_received"] == 40_000
    assert counts["datagrams_dropped_in"] == 40_000 - 1 - len(datagrams._incoming)


@given(st.lists(st.one_of(st.none(), st.integers(0, 300)), max_size=60), st.integers(0, 300))
def test_a_queue_knows_how_much_it_holds(steps, largest):
    """Numbers: datagrams of that size come; None: one leaves."""
    waiting, model, dropped = DatagramQueue(2000), [], 0
    for step in steps:
        if step is not None:
            waiting.append(bytes(step))
            model.append(bytes(step))
            while sum(len(data) + COST for data in model) > 2000:
                del model[0]
                dropped += 1
        elif model:
            assert waiting.popleft() == model.pop(0)
    assert (list(waiting), waiting.dropped) == (model, dropped)
    assert waiting.size == sum(len(data) + COST for data in model)
    kept = [data for data in model if len(data) <= largest]
    assert waiting.keep(largest) == len(model) - len(kept)
    assert list(waiting) == kept
    assert waiting.size == sum(len(data) + COST for data in kept)


def beside_a_bulk(pipe, interval, count, size=1000):
    """Send so many datagrams beside a bulk: how many arrive, and how much of the bulk meanwhile."""
    engine = pipe.client.engine
    bulk = pipe.client.open(b"first")
    pipe.settle(1)
    engine.send_stream_data(bulk, bytes(20_000_000))
    pipe.settle(1)
    before = len(pipe.server.data[bulk])
    for data in numbered(count, size):
        engine.datagrams.send(data)
        pipe.settle(interval)
    return len(pipe.server.datagrams), len(pipe.server.data[bulk]) - before


@both_paths
@pytest.mark.parametrize("window", [1 << 24, 45_000], ids=["paced", "window"])
def test_datagrams_beside_a_bulk_go_first(fast, window):
    pipe = quiet(fast, control=lambda size: Paced(size, window))
    arrived, bulk = beside_a_bulk(pipe, 0.0025, 1000, size=1000)  # 400 KB/s of 1 MB/s
    assert arrived > 980, "but for what is still under way"
    assert bulk > 0.45 * 2.5 * Paced.pacing_rate
    assert pipe.client.engine.datagrams.counts()["datagrams_dropped_out"] == 0


@pytest.mark.bulk
@both_paths
def test_a_flood_of_datagrams_leaves_half_to_streams(fast):
    pipe = quiet(fast)
    arrived, bulk = beside_a_bulk(pipe, 0.00025, 8000, size=1000)  # 4 MB/s where 1 MB/s fits
    assert bulk > 0.35 * 2.0 * Paced.pacing_rate
    assert 1000 * arrived > 0.35 * 2.0 * Paced.pacing_rate
    assert pipe.client.engine.datagrams.counts()["datagrams_dropped_out"] > 4000


@both_paths
def test_datagrams_do_not_wait_for_streams_that_have_little_to_say(fast):
    pipe = quiet(fast)
    engine = pipe.client.engine
    engine._loss.pacer.rate = None
    engine.datagrams.outgoing.share = 0.0
    number = pipe.client.open(b"a few bytes")
    sent = numbered(60, 1000)
    for data in sent:
        engine.datagrams.send(data)
    pipe.flush()
    assert len(engine.datagrams.outgoing) == 0
    assert engine.datagrams.outgoing.share <= SHARE
    pipe.settle(0.05)
    assert (pipe.server.datagrams, pipe.server.data[number]) == (sent, b"a few bytes")


@both_paths
@pytest.mark.parametrize("blocked", [False, True])
def test_after_a_bulk_datagrams_do_not_wait(fast, blocked):
    """Whether it has ended, or the peer takes no more of it: the streams' turn is over then."""
    pipe = quiet(fast)
    pipe.server.reads = not blocked
    engine = pipe.client.engine
    number = pipe.client.open(b"first")
    engine.send_stream_data(number, bytes(200_000))
    pipe.settle(2)
    engine.datagrams.outgoing.share = 0.0
    for data in numbered(5, 1000):
        engine.datagrams.send(data)
    pipe.settle(0.021)
    assert pipe.server.datagrams == numbered(5, 1000)


@both_paths
def test_of_a_lossy_path_the_rest_arrives_once(fast):
    pipe = Pipe(loss=0.1, fast=fast, seed=3).connect()
    pipe.settle(1)
    engine, shuffled = pipe.client.engine, random.Random(1)
    sent = [number.to_bytes(shuffled.randrange(4, 1170), "big") for number in range(2000)]
    before = engine._loss.progress.lost
    for data in sent:
        assert engine.datagrams.send(data)
        pipe.settle(0.001)
    pipe.settle(1)
    arrived = pipe.server.datagrams
    assert len(set(arrived)) == len(arrived), "none twice"
    assert set(arrived) <= set(sent)
    assert 0.85 * len(sent) < len(arrived) < 0.95 * len(sent)
    assert engine.datagrams.counts()["datagrams_sent"] == len(sent), "none again"
    missing = sum(map(len, set(sent) - set(arrived)))
    assert engine._loss.progress.lost - before >= missing, "the controller hears of it"
    assert engine._loss.bytes_in_flight == 0


@both_paths
def test_one_datagram_and_its_answer_take_a_round_trip(fast):
    pipe = quiet(fast)
    for number in range(10):
        start, question = pipe.now, b"question %d" % number
        pipe.client.engine.datagrams.send(question)
        pipe.run(lambda question=question: question in pipe.server.datagrams)
        pipe.server.engine.datagrams.send(b"answer to " + question)
        pipe.run(lambda question=question: b"answer to " + question in pipe.client.datagrams)
        assert pipe.now - start == pytest.approx(0.04, abs=1e-5), "no timer was waited for"
        pipe.settle(1)


@both_paths
def test_datagrams_are_acknowledged(fast):
    pipe = quiet(fast)
    engine = pipe.client.engine
    for data in numbered(30, 1000):
        engine.datagrams.send(data)
    pipe.flush()
    assert engine._loss.bytes_in_flight > 5000
    pipe.settle(0.12)
    assert (engine._loss.bytes_in_flight, engine._loss.timeouts) == (0, 0)
    assert engine.stats().loss == 0


@both_paths
def test_a_datagram_that_leaves_no_room_in_its_packet_holds_up_no_stream(fast):
    pipe = Pipe(control=Paced, fast=fast).connect()
    number = pipe.client.open(bytes(30_000))
    pipe.settle(2)
    client = pipe.client.engine
    for size in range(client.datagrams.max_size - 20, client.datagrams.max_size + 1):
        pipe.now += 1
        client.datagrams.send(bytes(size))
        client.send_stream_data(number, bytes(3000))
        client.datagrams_to_send(now=pipe.now)
        assert not client.unsent(number)
        assert not client.datagrams.outgoing
