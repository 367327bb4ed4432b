"""Answers without state: tokens that prove an address, for a while and for one connection ID."""

from dataclasses import replace

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicPacketType, get_retry_integrity_tag, pull_quic_header
from lane_quic.configuration import client_configuration, reset_token
from lane_quic.engine.engine import Engine
from lane_quic.stateless import TOKEN_LIFETIME, Stateless

KEY, PATH = b"the key of a server", (("192.0.2.1", 4433), ())
NOW = 1000.0


@pytest.fixture
def client():
    engine = Engine(client_configuration("server.test"))
    engine.connect("server", now=NOW)
    return engine


@pytest.fixture
def initial(client):
    return header_of(client.datagrams_to_send(now=NOW)[0][0])


def header_of(datagram):
    return pull_quic_header(Buffer(data=datagram), host_cid_length=8)


@pytest.fixture
def stateless():
    return Stateless(KEY, [1])


def test_a_client_comes_back_with_what_it_was_given(client, initial, stateless):
    retry = stateless.retry(initial, PATH, NOW)
    assert header_of(retry).packet_type == QuicPacketType.RETRY
    assert retry[-16:] == get_retry_integrity_tag(retry[:-16], initial.destination_cid, version=1)
    client.receive_datagram(retry, "server", now=NOW)
    again = header_of(client.datagrams_to_send(now=NOW)[0][0])
    assert again.destination_cid != initial.destination_cid
    assert stateless.came_back(again, PATH, NOW + 1) == initial.destination_cid
    assert Stateless(KEY, [1]).came_back(again, PATH, NOW + 1) == initial.destination_cid, "nothing is kept"


@pytest.mark.parametrize(
    "case",
    ["another address", "another port", "late", "early", "another id", "altered", "cut", "key"],
)
def test_a_token_that_is_not_its_own_is_none(initial, stateless, case):
    given = header_of(stateless.retry(initial, PATH, NOW))
    good = replace(initial, destination_cid=given.source_cid, token=given.token)
    assert stateless.came_back(good, PATH, NOW) == initial.destination_cid
    path, now, header = PATH, NOW, good
    match case:
        case "another address":
            path = (("192.0.2.2", 4433), ())
        case "another port":
            path = (("192.0.2.1", 4434), ())
        case "late":
            now += TOKEN_LIFETIME + 0.1
        case "early":
            now -= 0.1
        case "another id":
            header = replace(good, destination_cid=initial.destination_cid)
        case "altered":
            header = replace(good, token=good.token[:-1] + bytes((good.token[-1] ^ 1,)))
        case "cut":
            header = replace(good, token=good.token[:20])
        case "key":
            stateless = Stateless(b"another", [1])
    assert stateless.came_back(header, path, now) is None


def test_a_reset_is_shorter_than_what_it_answers(stateless):
    for size in range(1, 60):
        packet = b"\x41" + b"some cid" + bytes(max(0, size - 9))
        answer = stateless.reset(packet[:size])
        if answer is not None:
            assert 21 <= len(answer) < size
            assert answer[0] & 0xC0 == 0x40
            assert answer[-16:] == reset_token(KEY, b"some cid")
        else:
            assert size < 22
