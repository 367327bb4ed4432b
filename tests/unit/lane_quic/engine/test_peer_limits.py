"""What a peer with the right keys may ask for, and what ends its connection: two engines in memory."""

import inspect
import logging
from itertools import pairwise

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch
from lane_quic.configuration import LARGE_DATAGRAM, LARGEST_RECEIVED
from lane_quic.engine import engine, peer_limits
from lane_quic.recovery import recovery

from tests.support.quic_pipe import Pipe


def frame(*numbers, data=b""):
    return b"".join(map(encode_uint_var, numbers)) + data


def new_id(number, retire=0):
    return frame(0x18, number, retire, 8, data=number.to_bytes(8, "big") + bytes(16))


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def pipe(request):
    pipe = Pipe(fast=request.param).connect()
    pipe.settle(1)
    return pipe


def seal(client, payload):
    number = client._packet_number
    client._packet_number += 1
    pair = client._cryptos[Epoch.ONE_RTT]
    first = bytes((0x41 | pair.key_phase << 2,))
    head = first + client._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
    return pair.encrypt_packet(head, payload.ljust(4, b"\0"), number)


def say(pipe, *payloads):
    """The server hears `payloads`, a packet each, together: the code of the error it ends with, or None."""
    server = pipe.server.engine
    packets = [seal(pipe.client.engine, payload) for payload in payloads]
    server.receive_datagrams(packets, "peer", pipe.now)
    return server._close_event and server._close_event.error_code


def test_an_acknowledgement_of_what_was_never_sent_ends_the_connection(pipe):
    number = pipe.server.engine._packet_number
    assert say(pipe, frame(0x02, number - 1, 0, 0, 0)) is None
    assert say(pipe, frame(0x02, number, 0, 0, 0)) == QuicErrorCode.PROTOCOL_VIOLATION


def bulk(pipe, size=3_000_000):
    number = pipe.client.open(b"down")
    pipe.run(lambda: pipe.server.data[number])
    pipe.server.engine.send_stream_data(number, bytes(size))
    pipe.run(lambda: len(pipe.client.data[number]) == size)


def test_who_acknowledges_all_that_may_have_been_sent_is_found_out(pipe):
    bulk(pipe)
    server = pipe.server.engine
    skipped = server._skipped
    assert skipped > 0
    assert say(pipe, frame(0x02, server._packet_number - 1, 0, 0, 0)) is None
    assert say(pipe, frame(0x02, skipped - 1, 0, 0, 5)) is None
    assert say(pipe, frame(0x02, skipped + 1, 0, 0, 0)) is None
    assert say(pipe, frame(0x02, skipped + 2, 0, 1, 0, 0, 1)) == QuicErrorCode.PROTOCOL_VIOLATION


def test_an_honest_peer_is_never_found_out_and_few_numbers_are_left_out(monkeypatch):
    monkeypatch.setattr(peer_limits, "randbelow", lambda most: 0)
    pipe = Pipe(loss=0.05, jitter=0.02, seed=3).connect()
    seen = set()
    step = pipe.server.engine._skip_number

    def noted():
        step()
        seen.add(pipe.server.engine._skipped)

    pipe.server.engine._skip_number = noted
    bulk(pipe)
    seen = sorted(seen - {-1})
    assert 4 <= len(seen) <= 8
    assert all(later >= 1.5 * earlier for earlier, later in pairwise(seen))


def test_packets_with_nothing_but_an_acknowledgement_are_forgotten_where_none_is_acknowledged(pipe):
    server = pipe.server.engine
    for _ in range(recovery.ACK_ONLY_PACKETS * 2):
        pipe.now += 0.01
        assert say(pipe, frame(1)) is None
        server.datagrams_to_send(pipe.now + 0.009)
    sent = server._spaces[Epoch.ONE_RTT].sent_packets
    assert recovery.ACK_ONLY_PACKETS <= len(sent) <= recovery.ACK_ONLY_PACKETS + 5
    assert max(sent) == server._packet_number - 1, "the last ones are remembered"


def test_messages_of_tls_are_bounded(pipe):
    assert say(pipe, frame(0x06, peer_limits.MOST_CRYPTO - 4, 4, data=b"more")) is None
    assert say(pipe, frame(0x06, peer_limits.MOST_CRYPTO - 3, 4, data=b"more")) == (
        QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
    )
    held = pipe.server.engine._crypto_streams[Epoch.ONE_RTT].receiver.held
    assert sum(len(piece) for _, piece in held) == 4, "and not all before it"


def test_a_stream_is_stopped_once(pipe):
    number = pipe.client.open(b"x")
    pipe.settle(1)
    assert say(pipe, frame(0x05, number, 7) * 300, frame(0x05, number, 7) * 300) is None
    assert len(pipe.server.engine._events) == 1
    pipe.settle(1)
    assert pipe.server.stops == {number: 7}


@pytest.mark.parametrize(("number", "code"), [(7, None), (8, QuicErrorCode.PROTOCOL_VIOLATION)])
def test_connection_ids_that_were_never_issued_are_not_retired(pipe, number, code):
    """Nor are those that take the place of one that the same packet retires."""
    retired = range(1, number + 1)
    assert say(pipe, b"".join(frame(0x19, each) for each in retired)) == code


def test_a_peer_that_retires_its_last_connection_id_ends_its_connection(pipe):
    server = pipe.server.engine
    assert say(pipe, new_id(8, retire=8)) is None
    for number in (10, 9):
        assert say(pipe, new_id(number)) is None
        server.change_connection_id()
    assert say(pipe, new_id(10, retire=10)) == QuicErrorCode.PROTOCOL_VIOLATION, "10 is used up"


def test_connection_ids_of_the_peer_that_were_used_up_are_bounded(pipe, monkeypatch):
    monkeypatch.setattr(peer_limits, "MOST_PEER_CIDS", 20)
    server = pipe.server.engine
    for _ in range(13):
        assert server._close_event is None
        server.change_connection_id()
        pipe.settle(0.5)
    assert server._close_event.error_code == QuicErrorCode.CONNECTION_ID_LIMIT_ERROR
    assert len(server._peer_cid_sequence_numbers) == 21


def test_keys_that_change_before_the_peer_has_heard_of_it_end_the_connection(pipe):
    for _ in range(5):
        pipe.client.engine.keys.update_key()
        assert say(pipe, frame(1), frame(1)) is None
        pipe.settle(0.5)
    pipe.client.engine.keys.update_key()
    assert say(pipe, frame(1)) is None
    pipe.client.engine.keys.update_key()
    assert say(pipe, frame(1)) == QuicErrorCode.KEY_UPDATE_ERROR


def test_nothing_is_heard_after_what_ended_a_connection(pipe):
    number = pipe.client.engine.get_next_available_stream_id()
    stream = frame(0x0A, number, 4, data=b"data")
    assert say(pipe, frame(0x1E), stream, frame(0x21)) == QuicErrorCode.PROTOCOL_VIOLATION
    assert not pipe.server.engine.knows(number)


def test_64_streams_may_say_something_in_each_packet(pipe):
    for offset in range(300):
        said = b"".join(frame(0x0E, 4 * number, offset, 1, data=b"x") for number in range(64))
        assert say(pipe, said + frame(1) + frame(0x10, offset)) is None
        pipe.server.engine._events.clear()


@pytest.mark.parametrize(
    "said", [frame(1), frame(0x02, 0, 0, 0, 0), frame(0x08 + 2, 0, 0), frame(0x05, 0, 7)]
)
def test_who_keeps_the_processor_busy_for_nothing_is_sent_away(pipe, said):
    few, many = said * 15, said * 300
    for _ in range(100):
        assert say(pipe, few) is None
    heard = 0
    while say(pipe, many) is None:
        heard += 1
        assert heard < 30
    assert pipe.server.engine._close_event.error_code == QuicErrorCode.PROTOCOL_VIOLATION


def test_a_reason_that_the_peer_gives_is_one_short_line(pipe):
    reason = b"the\nend\x1b[31m" + b"!" * 1000
    assert say(pipe, frame(0x1D, 7, len(reason), data=reason)) == 7
    said = str(pipe.server.engine.ended_by_peer)
    assert "theend[31m!!!" in said
    assert said.isprintable()
    assert len(said) < 300


def test_what_aioquic_says_of_peers_is_not_logged(pipe, caplog):
    with caplog.at_level(logging.DEBUG):
        say(pipe, frame(0x1E))
        pipe.server.engine.datagrams_to_send(pipe.now)
    assert caplog.records == []


@pytest.mark.parametrize("most", [1200, 1201, 1300, LARGEST_RECEIVED])
def test_packets_are_no_larger_than_the_peer_takes(monkeypatch, most):
    monkeypatch.setattr(engine, "LARGEST_RECEIVED", most)
    pipe, sizes = Pipe(), set()
    pipe.dropped = lambda datagram: sizes.add(len(datagram))
    pipe.connect()
    bulk(pipe, 300_000)
    pipe.server.engine._start_anew()
    bulk(pipe, 300_000)
    assert max(sizes) == min(most, LARGE_DATAGRAM)


@pytest.mark.parametrize(
    "name",
    ["_handle_ack_frame", "_handle_crypto_frame", "_handle_stop_sending_frame", "_initialize",
     "_handle_retire_connection_id_frame", "_handle_new_connection_id_frame", "_consume_peer_cid",
     "_write_new_connection_id_frame", "_log_key_updated", "_parse_transport_parameters"],
)  # fmt: skip
def test_what_is_guarded_is_still_called(name):
    assert f"self.{name}" in inspect.getsource(QuicConnection)
