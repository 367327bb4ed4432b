"""Packets of UDP in their three forms, byte by byte and under hypothesis."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane.address import MAX_PACKED, Address, unpack
from lane.errors import ProtocolError
from lane.proto import udp
from tests.support.strategies import ips

TARGET = Address("192.0.2.1", 53)
packets = st.tuples(
    st.builds(
        Address,
        st.one_of(ips, st.from_regex(r"[a-z]{1,60}", fullmatch=True)),
        st.integers(0, 65535),
    ),
    st.binary(max_size=300),
)


def read(*pieces, most=3):
    """The packets of all pieces, of which a call takes `most`."""
    reader, found = udp.PacketReader(), []
    for piece in pieces:
        at = 0
        while at < len(piece):
            packets, used = reader.take(piece[at:], most)
            assert packets or at + used == len(piece)
            found += packets
            at += used
    return found, reader


def test_the_header_of_socks5():
    packet = b"\0\0\0\x01\xc0\x00\x02\x01\x00\x35query"
    address, payload = udp.parse_socks(packet)
    assert (address, bytes(payload)) == (TARGET, b"query")
    assert udp.pack_socks(TARGET, b"query") == packet


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0\0",
        b"\0\0\0",
        b"\0\0\0\x01\xc0\x00\x02\x01\x00",  # a port of one byte
        b"\0\0\0\x02\xc0\x00\x02\x01\x00\x35",  # an unknown type of address
        b"\0\0\0\x03\x05abc\x00\x35",
        b"\0\0\x01\x01\xc0\x00\x02\x01\x00\x35query",  # a fragment
        b"\0\0\x80\x01\xc0\x00\x02\x01\x00\x35query",
        b"\x01\0\0\x01\xc0\x00\x02\x01\x00\x35query",
        b"\0\x01\0\x01\xc0\x00\x02\x01\x00\x35query",
    ],
)
def test_what_is_no_packet_of_socks5(packet):
    with pytest.raises(ProtocolError):
        udp.parse_socks(packet)


@given(st.binary(max_size=80))
def test_garbage_is_a_packet_or_a_protocol_error(data):
    for parse in udp.parse_socks, udp.parse_datagram:
        try:
            address, payload = parse(data)
        except ProtocolError:
            continue
        assert data.endswith(bytes(payload))
        assert 0 <= address.port <= 65535


@given(packets)
def test_a_datagram_is_what_was_packed(packet):
    flow = b"flow-id!"
    datagram = udp.pack_datagram(flow, *packet)
    assert datagram[: udp.FLOW_SIZE] == flow
    address, payload = udp.parse_datagram(datagram)
    assert (address, bytes(payload)) == packet


@given(st.lists(packets, max_size=8), st.lists(st.integers(0), max_size=8))
def test_any_split_of_a_stream_gives_the_same_packets(sent, cuts):
    data = b"".join(udp.pack_packet(*packet) for packet in sent)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found, reader = read(*(data[a:b] for a, b in pairwise(edges)))
    assert found == sent
    assert reader.at_boundary


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_garbage_on_a_stream_is_packets_or_a_protocol_error(pieces):
    try:
        found, reader = read(*pieces)
    except ProtocolError:
        return
    used = sum(len(udp.pack_packet(*packet)) for packet in found)
    assert len(reader._rest) <= sum(map(len, pieces)) - used or not reader.at_boundary


def test_the_end_of_a_stream_in_the_middle_of_a_packet_is_seen():
    whole = udp.pack_packet(TARGET, b"x" * 100)
    assert read(whole)[1].at_boundary
    for size in range(1, len(whole)):
        found, reader = read(whole[:size])
        assert not found
        assert not reader.at_boundary


def test_the_longest_packet_and_one_byte_more():
    longest = udp.pack_packet(TARGET, bytes(udp.MAX_PACKET))
    assert len(read(longest)[0][0][1]) == udp.MAX_PACKET
    with pytest.raises(ProtocolError, match="65508 bytes"):
        read(udp.pack_packet(TARGET, bytes(udp.MAX_PACKET + 1)))


def test_a_reader_holds_less_than_one_packet():
    reader = udp.PacketReader()
    whole = udp.pack_packet(Address("n" * 255, 1), bytes(udp.MAX_PACKET))
    for start in range(0, len(whole) - 1, 1000):
        piece = whole[start : min(start + 1000, len(whole) - 1)]
        assert reader.take(piece, 1) == ([], len(piece))
    assert len(reader._rest) < 2 + MAX_PACKED + udp.MAX_PACKET


def test_a_packet_in_single_bytes_is_looked_at_once_its_length_is_there(monkeypatch):
    """A peer that sends it so must not have us copy or parse it for each byte."""
    looks = []
    monkeypatch.setattr(udp, "unpack", lambda *at: looks.append(at) or unpack(*at))
    data = udp.pack_packet(TARGET, bytes(5000)) + udp.pack_packet(TARGET, b"next")
    packets, reader = read(*(data[at : at + 1] for at in range(len(data))))
    assert [len(payload) for _, payload in packets] == [5000, 4]
    assert len(looks) < 30
    assert reader.at_boundary
