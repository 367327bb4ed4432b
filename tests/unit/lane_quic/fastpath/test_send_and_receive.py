"""The fast paths beside aioquic's own: the same frames in the same packets, and the same state afterwards."""

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicNetworkPath
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.configuration import LARGE_DATAGRAM
from lane_quic.engine import sender
from lane_quic.engine.ack_timing import MAX_ACK_DELAY
from lane_quic.engine.engine import Engine
from lane_quic.engine.received_packets import KNOWN_PACKETS, ReceivedPackets
from lane_quic.engine.tail_repeat import SPAN, Arrivals, TailRepeat
from lane_quic.fastpath import batch
from lane_quic.fastpath import receive as fast_receive
from lane_quic.fastpath import send as fast_send
from lane_quic.fastpath.batch import short_header
from lane_quic.recovery.pacer import BURST
from lane_quic.udp.offload import apart

from tests.support.quic_pipe import Pipe

pytestmark = pytest.mark.bulk  # thousands of packets, twice

ONE_RTT = Epoch.ONE_RTT


class Steady:
    """A controller that is never in the way: only pacing holds back."""

    window = 1 << 40
    pacing_rate = 2e6

    def __init__(self, datagram_size):
        pass

    def on_sent(self, packet, in_flight):
        pass

    def on_sample(self, sample):
        pass


def number_at(data, at):
    size = 1 << (data[at] >> 6)
    return int.from_bytes(data[at : at + size], "big") & (1 << 8 * size - 2) - 1, at + size


def frames(plain):
    """What a packet says, with whatever is random left out: STREAM frames, and the types of others."""
    said, at = [], 0
    while at < len(plain):
        kind, at = plain[at], at + 1
        match kind:
            case kind if kind & 0xF8 == 0x08:
                stream, at = number_at(plain, at)
                offset, at = number_at(plain, at) if kind & 4 else (0, at)
                size, at = number_at(plain, at) if kind & 2 else (len(plain) - at, at)
                said.append(("STREAM", stream, offset, plain[at : at + size], kind & 1))
                at += size
            case 0x02:
                begin, more = at, 0
                for field in range(4):
                    value, at = number_at(plain, at)
                    more = 2 * value if field == 2 else more
                for _ in range(more):
                    _, at = number_at(plain, at)
                said.append(("ACK", plain[begin:at]))
            case 0x30 | 0x31:
                size, at = number_at(plain, at) if kind & 1 else (len(plain) - at, at)
                said.append(("DATAGRAM", plain[at : at + size]))
                at += size
            case 0x06:  # what TLS says is random
                offset, at = number_at(plain, at)
                size, at = number_at(plain, at)
                said.append(("CRYPTO", offset, size))
                at += size
            case 0x18:  # so are a connection ID and its token
                said.append(("NEW_CONNECTION_ID", plain[at : at + 3]))
                at += 2 + 1 + 8 + 16
            case 0x00 | 0x01 | 0x1E:
                said.append(kind)
            case _:
                said.append((kind, plain[at:]))
                break
    return said


class Taped(Pipe):
    """A pipe that writes down what each packet says, and both sides' state after it."""

    def __init__(self, **options):
        self.tape = []
        super().__init__(control=Steady, **options)
        self.connect().settle(1)
        self.tape.clear()  # signatures differ in size
        self.before = [totals(engine) for engine in self.engines]

    @property
    def engines(self):
        return self.client.engine, self.server.engine

    def _put(self, side, datagram):
        if datagram[0] < 0x80:
            who, other = ("client", self.client) if side is self.server else ("server", self.server)
            keys = other.engine._cryptos[ONE_RTT].send
            expected = side.engine._spaces[ONE_RTT].expected_packet_number
            _, plain, number, _ = keys.decrypt_packet(datagram, 9, expected)
            self.tape.append((round(self.now, 6), who, number, len(datagram), frames(plain)))
        super()._put(side, datagram)

    def flush(self):
        super().flush()
        if hasattr(self, "before"):
            states = (state(*both) for both in zip(self.engines, self.before, strict=True))
            self.tape.append(dict(zip(("client", "server"), states, strict=True)))


def ranges(found):
    return [(r.start, r.stop) for r in found]


def totals(engine):
    """Bytes that were sent, delivered and lost until now."""
    progress = engine._loss.progress
    return engine._network_paths[0].bytes_sent, progress.delivered, progress.lost


def state(engine, before):
    """Whatever the fast paths change, or decide by; totals without those from before."""
    sent, delivered, lost = before
    space, loss = engine._spaces[ONE_RTT], engine._loss
    streams = {}
    for number, stream in engine._streams.items():
        sender, receiver = stream.sender, stream.receiver
        streams[number] = (
            sender.buffer_is_empty, sender.highest_offset, sender.is_finished, sender._buffer_start,
            sender._buffer_stop, bytes(sender._buffer), ranges(sender._pending), ranges(sender._acked),
            sender._pending_eof, receiver.highest_offset, receiver.is_finished, receiver._buffer_start,
            receiver.held, receiver._final_size,
            stream.max_stream_data_local, stream.max_stream_data_remote,
        )  # fmt: skip
    return {
        "streams": streams,
        "order": [stream.stream_id for stream in engine._streams_queue],
        "numbers": (engine._packet_number, space.expected_packet_number, space.largest_acked_packet),
        "came": (ranges(space.ack_queue), space.largest_received_packet, space.largest_received_time),
        "known": sorted(n for n in space.received_packets._received if n >= space.received_packets._lower),
        "times": (space.ack_at, space.loss_time, engine._close_at, engine._pacing_at, engine.get_timer()),
        "credit": (engine._remote_max_data_used, engine._local_max_data.used, engine._local_max_data.sent),
        "spin": (engine._spin_bit, engine._spin_highest_pn),
        "idle": engine._ack_eliciting_sent_since_receipt,
        "flying": [
            (number, p.sent_time, p.sent_bytes, p.sent_state[0] - delivered, p.sent_state[1:])
            for number, p in space.sent_packets.items()
            if p.in_flight
        ],
        "in flight": (loss.bytes_in_flight, space.ack_eliciting_in_flight, loss._pto_count),
        "rtt": (loss.rtt, loss._rtt_min, loss._rtt_variance),
        "progress": (loss.progress.delivered - delivered, loss.progress.lost - lost, loss.spurious),
        "bytes": engine._network_paths[0].bytes_sent - sent,
        "datagrams": [*engine.datagrams.outgoing, engine.datagrams.counts(), engine.datagrams.outgoing.share],
    }


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


def test_common_packets_stay_so_after_a_path_that_was_left_before_it_was_validated():
    """Nothing may be sent there, once it got three times what came from it. Its challenge was lost."""
    pipe = Pipe().connect()
    pipe.settle(1)
    server = pipe.server.engine
    left = QuicNetworkPath("left")
    left.bytes_received, left.bytes_sent, left.peer_cid = 100, 300, server.peer_cid
    server.network_paths.append(left)
    server.said_all = False
    assert not fast_send.has_more_to_say(server)
    left.bytes_received += 1200
    server.said_all = False  # as after any packet from there
    assert fast_send.has_more_to_say(server)


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


ROWS = st.lists(
    st.tuples(st.integers(0, 2 * SPAN), st.integers(1, 3 * SPAN) | st.just(KNOWN_PACKETS)), max_size=20
)


@given(ROWS)
def test_packets_in_a_row_are_counted_as_one_by_one(rows):
    """`rows`: how many are lost, and how many come behind them."""
    together, apart = ReceivedPackets(Arrivals()), ReceivedPackets(Arrivals())
    stop = 0
    for lost, came in rows:
        low, stop = stop + lost, stop + lost + came
        together.add_row(low, stop)
        for number in range(low, stop):
            apart.add(number)
        for number in (low - 1, low, stop - 1, stop, stop - KNOWN_PACKETS, stop - KNOWN_PACKETS - 1):
            assert (number in together) == (number in apart), number
        assert vars(together._arrivals) == vars(apart._arrivals)
        assert len(together._received) <= 3 * KNOWN_PACKETS
