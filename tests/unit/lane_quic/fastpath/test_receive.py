"""What the fast path of receiving makes of packets that come together."""

from aioquic.quic.packet_builder import QuicDeliveryState
from lane_quic.engine import sender
from lane_quic.fastpath import batch
from lane_quic.fastpath import receive as fast_receive

from tests.support.quic_pipe import Pipe


def test_bytes_in_a_row_are_acknowledged_at_once(monkeypatch):
    pipe = Pipe().connect()
    pipe.settle(1)
    number = pipe.client.open(b"first")
    pipe.settle(1)
    pipe.client.engine.send_stream_data(number, bytes(49_995), True)
    calls = []
    sender = pipe.client.engine._streams[number].sender
    told = type(sender).on_data_delivery

    def note(self, delivery, start, stop, fin):
        calls.append((delivery, start, stop))
        told(self, delivery, start, stop, fin)

    monkeypatch.setattr(type(sender), "on_data_delivery", note)
    pipe.run(pipe.client.engine.drained)
    assert all(delivery is QuicDeliveryState.ACKED for delivery, _, _ in calls)
    assert len(calls) < 30 < 50_000 / 1200
    assert max(stop for _, _, stop in calls) == 50_000


def test_a_frame_that_ends_in_its_offset_is_none():
    pipe = Pipe().connect()
    number = pipe.client.open(b"first")
    pipe.settle(1)
    stream = pipe.server.engine._streams[number]
    stream.receiver._buffer_start = stream.receiver.highest_offset = 0x800005
    stream.max_stream_data_local = 1 << 30
    assert fast_receive._take_stream(pipe.server.engine, b"\x0c\x00\x80\x00\x05", 0, {}) is None


def test_a_batch_gives_one_event_a_stream(monkeypatch):
    pipe = Pipe().connect()
    first, second = pipe.client.open(b"first"), pipe.client.open(b"second")
    pipe.settle(1)
    engine, server = pipe.client.engine, pipe.server.engine
    monkeypatch.setattr(batch, "TURN", 0)  # they alternate
    monkeypatch.setattr(sender, "SHORT", -1)
    for number in (first, second):
        engine.send_stream_data(number, bytes(9000), False)
    datagrams = [datagram for datagram, _ in engine.datagrams_to_send(pipe.now)]
    assert len(datagrams) >= 8
    server.receive_datagrams(datagrams[:8], "peer", pipe.now)
    events = [server.next_event() for _ in range(2)]
    assert {event.stream_id for event in events} == {first, second}
    assert min(len(event.data) for event in events) > 4 * 1000
    assert server.next_event() is None
