"""What an engine sends, and when: pacing beside acknowledgements, and turns between streams."""

import pytest
from aioquic.quic.packet_builder import QuicDeliveryState
from lane_quic.engine.ack_timing import ACK_RIDES, ACK_SOON, FEW, MAX_ACK_DELAY, MIN_ACK_DELAY
from lane_quic.engine.sender import Sender
from lane_quic.recovery.pacer import BURST

from tests.support.quic_pipe import Pipe


class Paced:
    """Sends at a fixed rate, whatever happens."""

    def __init__(self, datagram_size, rate=50_000.0):
        self.window = 1 << 24
        self.pacing_rate = rate

    def on_sent(self, packet, in_flight):
        pass

    def on_sample(self, sample):
        pass


def moved(pipe, side, number, seconds):
    """Bytes of a stream that arrive at `side` in so many seconds."""
    before = len(side.data[number])
    pipe.settle(seconds)
    return len(side.data[number]) - before


@pytest.mark.bulk
@pytest.mark.parametrize("beside", [False, True])
def test_data_beside_acknowledgements_is_paced_as_well(beside):
    """An ACK may leave at any time. Data must not ride along, or a download would break the pacing."""
    pipe = Pipe(control=Paced).connect()
    number = pipe.client.open(bytes(5_000_000))
    pipe.run(lambda: pipe.server.data[number])
    if beside:
        pipe.server.engine._loss.controller.pacing_rate = 2e6
        pipe.server.engine.send_stream_data(number, bytes(15_000_000))
    pipe.settle(1)
    assert moved(pipe, pipe.server, number, 4) == pytest.approx(4 * 50_000, rel=0.12)


def test_small_messages_after_a_pause_leave_in_no_longer_a_burst_than_packets():
    """Neither what was saved before the pause nor what was in it may be spent twice."""
    pipe = Pipe(control=Paced).connect()
    number, client = pipe.client.open(b"first"), pipe.client.engine
    pipe.settle(2)
    now, sent = pipe.now + 1, 0
    for _ in range(100):
        client.send_stream_data(number, bytes(500))
        sent += sum(len(datagram) for datagram, _ in client.datagrams_to_send(now=now))
    assert sent <= (BURST + 1) * client.max_datagram_size


def test_a_probe_timeout_does_not_wait_for_the_rate():
    """It would fire again at once, and lose more and more of what is in flight without asking for it."""
    pipe = Pipe(control=lambda size: Paced(size, 1e6)).connect()
    number, loss = pipe.client.open(bytes(5000)), pipe.client.engine.loss
    pipe.settle(1)
    loss.controller.pacing_rate = loss.pacer.rate = 10_000.0
    pipe.dropped = lambda datagram: True
    pipe.client.engine.send_stream_data(number, bytes(30_000))
    for timeouts in (1, 2):
        pipe.run(lambda timeouts=timeouts: loss.timeouts == timeouts)
        assert loss.pacer.allowance(pipe.now) <= 0
        assert loss.time_of_last_sent_ack_eliciting_packet == pipe.now


@pytest.mark.parametrize("fast", [False, True])
def test_an_end_that_has_no_room_in_a_packet_holds_up_nothing(fast):
    pipe = Pipe(fast=fast).connect()
    ahead, reset, behind = (pipe.client.open(bytes(10)) for _ in range(3))
    pipe.settle(1)
    pipe.client.engine.send_stream_data(ahead, bytes(3000))
    pipe.client.abandon(reset)
    pipe.client.engine.send_stream_data(behind, bytes(3000))
    start = pipe.now
    pipe.run(lambda: pipe.server.resets and all(len(pipe.server.data[n]) == 3010 for n in (ahead, behind)))
    assert pipe.now - start < 0.03, "they left together"


def test_a_stream_that_repeats_what_was_lost_takes_turns():
    pipe = Pipe(control=lambda size: Paced(size, 500_000.0)).connect()
    bulk, short = pipe.client.open(bytes(3_000_000)), pipe.client.open(b"hello")
    pipe.run(lambda: len(pipe.server.data[bulk]) > 100_000 and pipe.server.data[short])
    pipe.dropped = lambda datagram: True
    pipe.settle(0.3)
    pipe.dropped = lambda datagram: False
    pipe.settle(0.1)
    pending = pipe.client.engine._streams[bulk].sender._pending
    assert sum(r.stop - r.start for r in pending) > 30_000, "much is to be sent again"
    start = pipe.now
    pipe.client.engine.send_stream_data(short, b"x" * 100)
    pipe.run(lambda: len(pipe.server.data[short]) == 105)
    assert pipe.now - start < 0.1


def test_a_sender_that_was_reset_holds_nothing():
    sender = Sender(0, lambda: None)
    sender.write(bytes(100_000))
    frames = [sender.get_frame(1000) for _ in range(5)]
    sender.reset(3)
    assert not sender._buffer
    for frame in frames:  # packets that are remembered may still be told of
        stop = frame.offset + len(frame.data)
        sender.on_data_delivery(QuicDeliveryState.ACKED, frame.offset, stop, False)
    assert not sender._buffer


@pytest.mark.parametrize("soon", [False, True])
def test_an_ack_that_is_nearly_due_leaves_where_packets_come(soon):
    pipe = Pipe().connect()
    number = pipe.client.open(bytes(100))
    pipe.settle(1)
    server, now = pipe.server.engine, pipe.now
    due = now + server._ack_delay
    for _ in range(2):
        pipe.client.engine.send_stream_data(number, bytes(100))
        for datagram, _ in pipe.client.engine.datagrams_to_send(now=now):
            server.receive_datagram(datagram, "peer", now=now)
        assert server.space.ack_at == (now if soon and now > pipe.now else due)
        now = due - ACK_SOON * (0.5 if soon else 1.5)


@pytest.mark.parametrize("fast", [False, True])
def test_an_ack_of_little_waits_for_data_and_leaves_with_it(fast):
    pipe = Pipe(fast=fast).connect()
    number = pipe.client.open(bytes(100))
    pipe.settle(1)
    server, now = pipe.server.engine, pipe.now

    def say(size):
        """The client sends `size` bytes. Returns the seconds until the server acknowledges them."""
        pipe.client.engine.send_stream_data(number, bytes(size))
        for datagram, _ in pipe.client.engine.datagrams_to_send(now=now):
            server.receive_datagram(datagram, "peer", now=now)
        return None if server.space.ack_at is None else server.space.ack_at - now

    def answer():
        """The server answers. Returns whether its ACK left with the answer."""
        server.send_stream_data(number, bytes(10))
        assert len(server.datagrams_to_send(now=now)) == 1
        server._ack_delay = MIN_ACK_DELAY  # as on a short path
        return server.space.ack_at is None

    server._ack_delay = MIN_ACK_DELAY
    assert [say(10) for _ in range(FEW)] == [pytest.approx(MAX_ACK_DELAY)] * FEW
    assert answer()
    say(10)
    now += ACK_RIDES * 0.6
    assert not answer(), "another one has just left"
    now += ACK_RIDES / 2
    assert answer()
    assert [say(10) for _ in range(FEW + 1)][-1] == pytest.approx(MIN_ACK_DELAY), "they are many"
    now += ACK_RIDES
    assert answer()
    assert say(1000) == pytest.approx(MIN_ACK_DELAY), "the peer may have more to send"


def test_a_timer_that_an_ack_brings_into_the_past_fires_at_once(monkeypatch):
    """A probe timeout may have passed while a reordered packet was waited for."""
    pipe = Pipe().connect()
    number, client, server = pipe.client.open(bytes(100_000)), pipe.client.engine, pipe.server.engine
    pipe.run(lambda: pipe.server.data[number])
    server.send_stream_data(number, bytes(100_000))
    pipe.settle(1)
    assert not client.lossy, "else a tail may be due"
    for arrives in (True, False):
        client.send_stream_data(number, b"data")
        for data, _ in client.datagrams_to_send(pipe.now):
            if arrives:
                server.receive_datagram(data, "peer", pipe.now)
    now = pipe.now + MAX_ACK_DELAY
    monkeypatch.setattr(type(client.loss), "get_probe_timeout", lambda *_, **__: MAX_ACK_DELAY / 2)
    client.receive_datagrams([data for data, _ in server.datagrams_to_send(now)], "server", now)
    assert client.get_timer() < now
    assert client.quiet_until(now) is None
    client.datagrams_to_send(now)
    assert not client.timer_stays


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("lost", [False, True])
def test_a_gap_is_told_of_at_once(lost, fast):
    """RFC 9000 section 13.2.1. Other acknowledgements wait for more packets."""
    pipe = Pipe(fast=fast).connect()
    number = pipe.client.open(bytes(100))
    pipe.settle(1)
    packets = []
    for _ in range(3):
        pipe.client.engine.send_stream_data(number, bytes(100))
        packets += pipe.client.engine.datagrams_to_send(now=pipe.now)
    server = pipe.server.engine
    for datagram, _ in packets[: 1 if lost else 2]:
        server.receive_datagram(datagram, "peer", now=pipe.now)
        assert server.space.ack_at > pipe.now
    server.receive_datagram(packets[2][0], "peer", now=pipe.now)
    assert (server.space.ack_at == pipe.now) == lost
