"""What the fast path of sending takes, and in which order."""

import pytest
from lane_quic.configuration import LARGE_DATAGRAM
from lane_quic.engine import sender
from lane_quic.engine.ack_timing import MAX_ACK_DELAY
from lane_quic.fastpath import batch
from lane_quic.fastpath import send as fast_send
from lane_quic.fastpath.batch import short_header
from lane_quic.recovery.pacer import BURST
from lane_quic.udp.offload import apart

from tests.support.quic_pipe import Pipe
from tests.support.quic_tape import Steady


def test_the_rest_of_a_stream_and_its_end_are_common():
    pipe = Pipe().connect()
    number, engine = pipe.client.open(bytes(300_000)), pipe.client.engine
    pipe.run(lambda: len(pipe.server.data[number]) == 300_000)
    pipe.settle(1)
    assert not engine.lossy
    for size in (100, 3 * LARGE_DATAGRAM + 100):
        engine.send_stream_data(number, bytes(size))
        datagrams, done = fast_send.send(engine, pipe.now)
        assert done
        assert sum(len(data) for data, _ in datagrams) > size
        assert not engine._streams[number].sender.unsent
        pipe.settle(1)
    engine.send_stream_data(number, b"end", True)
    datagrams, done = fast_send.send(engine, pipe.now)
    assert done
    assert len(datagrams) == 1


def test_a_message_makes_no_batch_and_its_arrival_stirs_nothing(monkeypatch):
    pipe, made = Pipe().connect(), []
    number = pipe.client.open(b"first")
    pipe.settle(1)
    monkeypatch.setattr(batch, "short_header", lambda engine: made.append(1) or short_header(engine))
    for turn in range(1, 101):
        for side, other, lead in (pipe.client, pipe.server, 5), (pipe.server, pipe.client, 0):
            side.engine.send_stream_data(number, bytes(64))
            pipe.run(lambda side=other, size=64 * turn + lead: len(side.data[number]) == size)
        if turn == 50:  # the loss is known now: before, the ends of messages were sent twice
            made.clear()
    assert len(made) < 10, "few of 100 messages"
    server = pipe.server.engine
    pipe.settle(1)
    server.send_stream_data(number, bytes(64))
    (datagram,) = [data for data, _ in server.datagrams_to_send(pipe.now)]
    assert pipe.client.engine.quiet_until(pipe.now) is None, "no ACK is due: who knows what else is"
    pipe.client.engine.receive_datagrams([datagram], "server", pipe.now)
    assert pipe.client.engine.quiet_until(pipe.now) == pipe.now + MAX_ACK_DELAY
    later = pipe.now + MAX_ACK_DELAY
    for data, _ in pipe.client.engine.datagrams_to_send(later):
        server.receive_datagrams([data], "peer", later)
    server.pacing_at = later
    assert server.quiet_until(later) is None, "the rate held up something"
    server.pacing_at, server.local_max_data.sent = None, 0
    assert server.quiet_until(later) is None, "the packet with the limit was lost"
    server.local_max_data.sent = server.local_max_data.value
    assert server.quiet_until(later) == server.close_at, "an ACK came, and nothing waits for it"
    server.send_ping(1)
    for data, _ in server.datagrams_to_send(pipe.now):
        pipe.client.engine.receive_datagrams([data], "server", pipe.now)
    assert pipe.client.engine.quiet_until(pipe.now) is None, "an answer may be due"


def test_each_stream_has_its_share_of_a_turn_in_one_row():
    pipe = Pipe(control=Steady).connect()
    numbers = [pipe.client.open(b"first") for _ in range(4)]
    pipe.settle(1)
    engine = pipe.server.engine
    for number in numbers:
        engine.send_stream_data(number, bytes(200_000))
    engine.loss.pacer.rate = 100e6
    pipe.now += 1
    datagrams, _ = fast_send.send(engine, pipe.now)
    client = pipe.client.engine
    client.receive_datagrams([data for data, _ in apart(datagrams)], "server", pipe.now)
    sizes = {}
    while (event := client.next_event()) is not None:
        sizes[event.stream_id] = sizes.get(event.stream_id, 0) + len(event.data)
    share = batch.MOST_IN_TURN * (LARGE_DATAGRAM - 50)
    assert len(apart(datagrams)) > 2 * batch.MOST_IN_TURN
    assert sorted(sizes) == numbers[: len(sizes)], "in turn"
    assert min(sizes[number] for number in numbers[:2]) > share * 0.8


@pytest.mark.parametrize(("size", "first"), [(4200, True), (sender.SHORT, True), (sender.SHORT + 1, False)])
def test_a_short_answer_goes_whole_before_the_others(size, first):
    pipe = Pipe(control=Steady).connect()
    long, short = pipe.client.open(b"long"), pipe.client.open(b"short")
    pipe.settle(1)
    engine = pipe.server.engine
    engine.send_stream_data(long, bytes(200_000))
    engine.send_stream_data(short, bytes(size))
    engine.loss.pacer.rate = 4e6  # ten packets a stream in a turn
    pipe.now += 0.01
    packets = [data for data, _ in apart(fast_send.send(engine, pipe.now)[0])]
    client = pipe.client.engine
    client.receive_datagrams(packets[: -(-size // (LARGE_DATAGRAM - 50))], "server", pipe.now)
    found = 0
    while (event := client.next_event()) is not None:
        found += len(event.data) if event.stream_id == short else 0
    assert (found == size) is first


def test_a_short_answer_does_not_wait_for_the_budget_which_makes_it_good():
    pipe = Pipe(control=Steady).connect()
    long, short = pipe.client.open(b"long"), pipe.client.open(b"short")
    pipe.settle(1)
    engine = pipe.server.engine
    pacer = engine.loss.pacer
    engine.send_stream_data(long, bytes(200_000))
    engine.send_stream_data(short, bytes(4200))
    fast_send.send(engine, pipe.now)
    assert pacer.allowance(pipe.now) <= 0
    for _ in range(20):
        engine.send_stream_data(short, bytes(4200))
        sent = len(apart(fast_send.send(engine, pipe.now)[0]))
        assert sent <= 4, "nothing of the long one"
    assert sent == 0, "no more than a burst is owed"
    owed = -pacer.allowance(pipe.now)
    assert BURST * LARGE_DATAGRAM < owed + 2 * LARGE_DATAGRAM < (BURST + 4) * LARGE_DATAGRAM
