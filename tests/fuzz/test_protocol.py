"""lane/1 under hypothesis: round trips, any split gives the same, garbage only ProtocolError."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lane.address import Address, normal_host, unpack
from lane.errors import ProtocolError
from lane.proto.frames import (
    MAX_OFFSET,
    MAX_PAYLOAD,
    MAX_WINDOW,
    Ack,
    Data,
    Fin,
    FrameReader,
    Ping,
    Pong,
    Received,
    ResetFrame,
    Stats,
    pack,
)
from lane.proto.hello import (
    MAX_HELLO_PADDING,
    RESUMABLE,
    Reply,
    Request,
    pack_hello,
    parse_hello,
    parse_reply,
    parse_request,
)
from tests.support.strategies import ips

u8, u16, u32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
u64 = st.integers(0, 2**64 - 1)
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60).map(normal_host)
addresses = st.builds(Address, st.one_of(ips, names), u16)
ids = st.binary(min_size=16, max_size=16)
requests = st.one_of(
    st.builds(Request, u8, addresses, u32, u8.filter(lambda flags: not flags & RESUMABLE)),
    st.builds(
        Request,
        u8,
        addresses,
        u32,
        u8.map(lambda flags: flags | RESUMABLE),
        st.binary(min_size=16, max_size=16),
        u32,
    ),
)
texts = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=50)
replies = st.builds(Reply, u8, st.binary(min_size=8, max_size=8), u32, addresses, texts)
frames = st.one_of(
    st.builds(Data, st.integers(0, MAX_OFFSET), st.binary(min_size=1, max_size=200)),
    st.builds(Data, st.integers(0, MAX_OFFSET), st.integers(1, MAX_PAYLOAD).map(bytes)),
    st.builds(Ack, u64, st.integers(0, MAX_WINDOW)),
    st.builds(Fin, u64),
    st.builds(ResetFrame, u32),
    st.builds(Ping, u64),
    st.builds(Stats, u32, u64, u64, u64),
    st.builds(Received, u64),
    st.builds(Pong, u64),
)
cuts = st.lists(st.integers(0, 300_000), max_size=12)
garbage = st.one_of(
    st.binary(max_size=300),
    # Heads that are nearly right get further than noise does.
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 20), st.binary(max_size=24)), max_size=8).map(
        lambda parts: b"".join(bytes((kind, 0, 0, size)) + body for kind, size, body in parts)
    ),
)


def split(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def read(pieces):
    """The frames with adjacent pieces of data joined, whether the last is whole, and the error if any."""
    reader, found = FrameReader(), []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                _join(found, frame)
            if reader.rest is not None:
                break  # what follows an END is for somebody else
    except ProtocolError as error:
        return found, None, str(error)
    return found, reader.between_frames, None


def _join(found, frame):
    if not isinstance(frame, Data):
        found.append(frame)
        return
    start, data = frame.offset, bytes(frame.data)
    last = found[-1] if found else None
    if isinstance(last, Data) and start == last.offset + len(last.data):
        start, data = last.offset, last.data + data
        found.pop()
    found.append(Data(start, data))


@given(st.lists(frames, max_size=6), cuts)
def test_frames_survive_any_split(sent, places):
    data = b"".join(map(pack, sent))
    expected, whole, error = read([pack(frame) for frame in sent])
    assert (whole, error) == (True, None)
    assert [f for f in expected if not isinstance(f, Data)] == [f for f in sent if not isinstance(f, Data)]
    assert b"".join(pack(f)[12:] for f in expected if isinstance(f, Data)) == b"".join(
        f.data for f in sent if isinstance(f, Data)
    )
    assert read(split(data, places)) == (expected, True, None)


@given(frames)
def test_a_frame_alone_is_what_was_packed(frame):
    assert read([pack(frame)]) == ([frame], True, None)


@given(garbage, cuts)
def test_garbage_between_frames_costs_no_more_than_a_protocol_error(data, places):
    # `read` lets everything else through. The error is the same however the bytes were split, and what
    # came before it is too, but for frames of the very piece that has the error.
    singles = read([data[i : i + 1] for i in range(len(data))])
    pieces = read(split(data, places))
    assert pieces[1:] == singles[1:]
    if singles[2] is None:
        assert pieces[0] == singles[0]


@given(st.binary(min_size=32, max_size=32), st.integers(0, MAX_HELLO_PADDING))
def test_hello_round_trip(proof, padding):
    data = pack_hello(proof, padding)
    assert parse_hello(data) == (proof, len(data))


@given(requests, st.binary(max_size=20))
def test_request_round_trip(request, behind):
    data = request.pack()
    assert parse_request(data + behind) == (request, len(data))
    assert all(parse_request(data[:size]) is None for size in range(len(data)))


@given(replies, st.binary(max_size=20))
def test_reply_round_trip(reply, behind):
    data = reply.pack()
    assert parse_reply(data + behind) == (reply, len(data))
    assert all(parse_reply(data[:size]) is None for size in range(len(data)))


@given(addresses, st.binary(max_size=20), st.binary(max_size=20))
def test_address_round_trip(address, before, behind):
    data = address.pack()
    assert unpack(before + data + behind, len(before)) == (address, len(before) + len(data))


messages = st.one_of(
    st.binary(max_size=600),
    # A right length, and noise behind it.
    st.binary(max_size=520).map(lambda body: len(body).to_bytes(2, "big") + body),
    st.binary(max_size=60).map(lambda body: b"@@\x40\x21\x01" + body),
)


@given(messages)
def test_garbage_before_frames_costs_no_more_than_a_protocol_error(data):
    for parse in (parse_hello, parse_request, parse_reply, unpack):
        try:
            found = parse(data)
        except ProtocolError:
            continue
        if found is not None and parse is not parse_hello:
            assert 0 < found[1] <= len(data)
