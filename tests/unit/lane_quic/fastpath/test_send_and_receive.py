"""The fast paths beside aioquic's own: the same frames in the same packets, and the same state afterwards.

Nearly all packets take them."""

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.stream import QuicStream
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.configuration import LARGE_DATAGRAM
from lane_quic.engine import sender
from lane_quic.engine.engine import Engine
from lane_quic.engine.tail_repeat import TailRepeat
from lane_quic.fastpath import batch
from lane_quic.fastpath import receive as fast_receive
from lane_quic.fastpath import send as fast_send
from lane_quic.udp.offload import apart

from tests.support.quic_pipe import Pipe
from tests.support.quic_tape import ONE_RTT, Taped, state

pytestmark = pytest.mark.bulk  # thousands of packets, twice
ACTION = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), st.integers(1, 60_000), st.booleans()),
    st.tuples(st.just("answer"), st.integers(0, 3), st.integers(1, 60_000)),
    st.tuples(
        st.just("talk"), st.integers(0, 3), st.integers(1, 600), st.integers(1, 20), st.floats(0, 0.01)
    ),
    st.tuples(st.just("reset"), st.integers(0, 3)),
    st.tuples(st.just("say"), st.booleans(), st.integers(0, 1500), st.integers(1, 60)),
    st.tuples(st.just("wait"), st.floats(0.001, 0.3)),
    st.tuples(st.just("keys")),
    st.tuples(st.just("ping")),
)


def play(actions, *, alone, **options):
    """The tape of a schedule, which does not depend on what the engines do. `alone`: with one stream."""
    with pytest.MonkeyPatch.context() as patch:
        # aioquic keeps streams that share a packet in a set, so their order after it is any.
        patch.setattr(QuicStream, "__hash__", lambda stream: stream.stream_id)
        patch.setattr(batch, "TURN", 0)  # a packet in turn, as in aioquic
        patch.setattr(sender, "SHORT", 1 << 40 if alone else -1)  # nobody is first
        patch.setattr(TailRepeat, "lossy", False)  # aioquic's frames note no tails
        return _play(actions, streams=1 if alone else 4, **options)


def _play(actions, *, fast, streams, **options):
    pipe = Taped(fast=fast, **options)
    opened, over = {}, set()
    for action in actions:
        kind, *details = action
        if kind in ("write", "answer", "talk", "reset"):
            index = details[0] % streams
            if index not in opened:
                opened[index] = pipe.client.open(b"first", False)
            number = opened[index]
            side = pipe.server if kind == "answer" else pipe.client
            over_as = "write" if kind == "talk" else kind
            known = side.engine.knows(number) and not over & {(over_as, index), ("reset", index)}
            if not known:
                continue
            if kind == "talk":  # both sides say little, in turn
                for _ in range(details[2]):
                    for side in pipe.client, pipe.server:
                        if side.engine.knows(number):
                            side.engine.send_stream_data(number, bytes(details[1]))
                        pipe.settle(details[3])
            elif kind == "reset":
                side.engine.reset_stream(number, 7)
                over.add(("reset", index))
            else:
                end = details[2] if kind == "write" else False
                side.engine.send_stream_data(number, bytes(range(256)) * (details[1] // 256 + 1), end)
                if end:
                    over.add((kind, index))
        elif kind == "say":
            side = pipe.client if details[0] else pipe.server
            for step in range(details[2]):
                side.engine.datagrams.send(bytes(details[1] * (step % 3 + 1) // 3))
        elif kind == "keys":
            pipe.client.engine.request_key_update()
        elif kind == "ping":
            pipe.client.engine.send_ping(1)
        pipe.settle(details[0] if kind == "wait" else 0.0)
    pipe.settle(5)
    return pipe.tape


def compare(fast, slow):
    for number, (ours, theirs) in enumerate(zip(fast, slow, strict=False)):
        if isinstance(ours, dict) and isinstance(theirs, dict):
            for who, what in ours.items():
                other = theirs[who]
                differ = {key: (now, other[key]) for key, now in what.items() if now != other[key]}
                assert not differ, f"entry {number} of the tape: of the {who}"
        assert ours == theirs, f"entry {number} of the tape"
    assert len(fast) == len(slow)


@given(
    st.lists(ACTION, max_size=12),
    st.sampled_from([{}, {"loss": 0.1}, {"jitter": 0.02}, {"loss": 0.05, "twice": 0.05, "jitter": 0.01}]),
    st.integers(0, 100),
    st.booleans(),
)
def test_whatever_happens_packets_and_state_are_as_aioquics(actions, link, seed, alone):
    options = {"seed": seed, "alone": alone, **link}
    compare(play(actions, fast=True, **options), play(actions, fast=False, **options))


@pytest.fixture
def counted(monkeypatch):
    """How many packets each path took, and from how many aioquic read frames."""
    found = {"sent": 0, "received": 0, "left": 0, "read": 0}
    send, receive, read = fast_send.send, fast_receive.receive, Engine._payload_received

    def counting_send(engine, now):
        datagrams, done = send(engine, now)
        found["sent"] += len(apart(datagrams))
        return datagrams, done

    def counting_receive(engine, datagrams, start, address, now):
        index = receive(engine, datagrams, start, address, now)
        found["received"] += index - start
        found["left"] += index < len(datagrams)
        return index

    def counting_read(*args, **kwargs):
        found["read"] += 1
        return read(*args, **kwargs)

    monkeypatch.setattr(Engine, "_payload_received", counting_read)
    monkeypatch.setattr(fast_send, "send", counting_send)
    monkeypatch.setattr(fast_receive, "receive", counting_receive)
    return found


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_nearly_all_packets_of_a_bulk_are_common_ones(counted, loss):
    pipe = Pipe(loss=loss).connect()
    pipe.settle(1)
    counted.update(sent=0, received=0, left=0, read=0)
    number = pipe.client.open()
    data = bytes(range(256)) * 8000
    for start in range(0, len(data), 64000):
        pipe.client.engine.send_stream_data(number, data[start : start + 64000], False)
        pipe.run(lambda: pipe.client.engine.unsent(number) < 64000)
    pipe.client.engine.send_stream_data(number, b"", True)
    pipe.run(lambda: number in pipe.server.ends)
    assert pipe.server.data[number] == data
    assert counted["sent"] > 0.8 * len(data) / LARGE_DATAGRAM
    assert counted["left"] < 0.02 * counted["received"]
    assert counted["read"] < 0.1 * counted["received"], "what comes out of order is common too"


def test_messages_of_several_streams_share_a_packet(counted):
    pipe = Pipe().connect()
    numbers = [pipe.client.open(b"first") for _ in range(8)]
    pipe.settle(1)
    counted.update(sent=0, received=0, left=0, read=0)
    for number in numbers:
        pipe.client.engine.send_stream_data(number, b"message")
    before = pipe.client.engine.packet_number
    pipe.settle(1)
    assert pipe.client.engine.packet_number - before < len(numbers)
    assert all(pipe.server.data[number] == b"firstmessage" for number in numbers)
    assert counted["sent"] > 0
    assert not counted["read"], "aioquic has read no frame"


def test_common_packets_stay_so_beside_a_stream_that_nobody_reads(counted):
    pipe = Pipe().connect()
    number, other = pipe.client.open(b"unread"), pipe.client.open(b"first")
    pipe.settle(1)
    engine = pipe.server.engine
    engine.abandon(number, 6, 0)
    counted.update(sent=0)
    engine.send_stream_data(other, bytes(300_000))
    pipe.run(lambda: len(pipe.client.data[other]) == 300_000)
    pipe.settle(1)
    assert counted["sent"] > 0.8 * 300_000 / LARGE_DATAGRAM
    assert engine.abandoned
    assert fast_send.send(engine, pipe.now) == ([], True)
    engine._streams[number].receiver.highest_offset += 60_000
    assert fast_send.send(engine, pipe.now) == ([], False), "what it brought counts as read: there is credit"


VARINT = st.one_of(st.integers(0, 70), st.integers(0, (1 << 62) - 1))
STREAM_FRAME = st.builds(
    lambda kind, stream, offset, data, lie: (
        bytes((8 | kind,))
        + encode_uint_var(stream)
        + (encode_uint_var(offset) if kind & 4 else b"")
        + (encode_uint_var(max(0, len(data) + lie)) if kind & 2 else b"")
        + data
    ),
    st.integers(0, 7),
    st.sampled_from([0, 0, 4, 8, 1, 2, 3, 400]),
    st.one_of(st.integers(0, 60), VARINT),
    st.binary(max_size=40),
    st.sampled_from([0, 0, 0, -1, 1, 1 << 40]),
)
ACK_FRAME = st.builds(
    lambda numbers: b"\x02" + b"".join(map(encode_uint_var, numbers)),
    st.lists(VARINT, min_size=3, max_size=9),
)
DATAGRAM_FRAME = st.builds(
    lambda kind, data, lie: (
        bytes((kind,)) + (encode_uint_var(max(0, len(data) + lie)) if kind & 1 else b"") + data
    ),
    st.sampled_from([0x30, 0x31]),
    st.binary(max_size=40),
    st.sampled_from([0, 0, 0, -1, 1, 1 << 17]),
)
OTHER_FRAME = st.one_of(
    st.sampled_from([b"", b"\x00", b"\x01", b"\x1e", b"\x1a" + bytes(8), b"\x10\x40\xff", b"\x06\x00\x01x"]),
    st.binary(max_size=30),
)
PAYLOAD = st.lists(st.one_of(STREAM_FRAME, ACK_FRAME, DATAGRAM_FRAME, OTHER_FRAME), max_size=4).map(b"".join)


def told(engine):
    """The events that wait, with the data of each stream in one of them: only their order in it counts."""
    events, data = [], {}
    while (event := engine.next_event()) is not None:
        if isinstance(event, StreamDataReceived) and not event.end_stream:
            data[event.stream_id] = data.get(event.stream_id, b"") + event.data
        else:
            events += [*data.items(), event]
            data = {}
    return [*events, *data.items()]


def hear(payloads, *, fast, together):
    """A server that hears `payloads` from its client, each in a packet of its own: what it makes of them.

    `together`: they come in one batch.
    """
    pipe = Taped(fast=fast)
    number, numbers = pipe.client.open(b"first"), pipe.client.engine._packet_number + 100
    pipe.settle(0.5)
    client, server = pipe.client.engine, pipe.server.engine
    keys, made, packets = client._cryptos[ONE_RTT].send, [], []
    for step, payload in enumerate(payloads):
        first = bytes((0x41 | keys.key_phase << 2,))
        head = first + client._peer_cid.cid + (numbers + step).to_bytes(2, "big")
        packets.append(keys.encrypt_packet(head, payload.ljust(4, b"\0"), numbers + step))
    for datagrams in [packets] if together else [[packet] for packet in packets]:
        pipe.now += 0.01
        server.receive_datagrams(datagrams, "peer", pipe.now)
        made += told(server)
        closed = server._close_event and (server._close_event.error_code, server._close_event.frame_type)
        made.append((closed, server._close_pending, state(server, pipe.before[1])))
    assert server.knows(number) or made
    return made


@given(st.lists(PAYLOAD, max_size=6), st.booleans())
def test_whatever_a_peer_says_is_heard_as_aioquic_hears_it(payloads, together):
    heard = hear(payloads, fast=True, together=together)
    assert heard == hear(payloads, fast=False, together=together)
