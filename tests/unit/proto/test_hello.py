"""HELLO, REQUEST and REPLY: what the vectors of docs/vectors.json do not show."""

import pytest

from lane.address import Address
from lane.errors import ProtocolError, Status
from lane.proto.hello import (
    HELLO_SIZE,
    MAX_REQUEST,
    MAX_REQUEST_PADDING,
    MAX_TEXT,
    Command,
    Reply,
    Request,
    pack_hello,
    parse_hello,
    parse_reply,
    parse_request,
    token,
)

TARGET = Address("example.com", 443)
KEY, BINDING = b"k" * 32, b"b" * 32
BOOT = bytes(range(8))


def test_a_token_is_of_one_key_and_one_binding():
    tokens = {token(key, tie) for key in (KEY, b"l" * 32) for tie in (BINDING, b"c" * 32)}
    assert len(tokens) == 4
    assert {len(one) for one in tokens} == {32}


def test_a_hello_is_no_http_request():
    assert not pack_hello(token(KEY, BINDING))[:1].isalpha()


@pytest.mark.parametrize("position", [0, 1, 2, 4])
def test_a_wrong_byte_is_told_only_once_a_whole_hello_is_there(position):
    data = bytearray(pack_hello(token(KEY, BINDING)))
    data[position] ^= 0xFF
    assert all(parse_hello(data[:size]) is None for size in range(HELLO_SIZE))
    with pytest.raises(ProtocolError):
        parse_hello(data)


def test_a_wrong_token_is_not_the_parsers_to_judge():
    assert parse_hello(pack_hello(bytes(32))) == (bytes(32), HELLO_SIZE)


def test_padding_differs_from_request_to_request():
    request = Request(Command.CONNECT, TARGET, 262144)
    packed = {request.pack() for _ in range(50)}
    assert len({len(data) for data in packed}) > 10
    bare = 8 + len(TARGET.pack())
    assert all(bare <= len(data) <= bare + MAX_REQUEST_PADDING for data in packed)
    assert all(parse_request(data) == (request, len(data)) for data in packed)


def test_the_longest_request_fits():
    request = Request(Command.CONNECT, Address("n" * 255, 65535), 2**32 - 1, 255)
    assert all(len(request.pack()) <= MAX_REQUEST for _ in range(20))


def test_a_long_text_is_cut():
    reply = Reply(Status.FAILURE, BOOT, 1, TARGET, "x" * 300)
    parsed, _ = parse_reply(reply.pack())
    assert parsed.text == "x" * MAX_TEXT


def test_a_text_that_is_cut_within_a_character_is_still_text():
    reply = Reply(Status.FAILURE, BOOT, 1, TARGET, "x" * (MAX_TEXT - 1) + "ä")
    parsed, _ = parse_reply(reply.pack())
    assert parsed.text == "x" * (MAX_TEXT - 1) + "\N{REPLACEMENT CHARACTER}"


def test_a_servers_text_can_not_write_on_a_terminal():
    parsed, _ = parse_reply(Reply(Status.FAILURE, BOOT, 1, TARGET, "a\x1b[2J\nb").pack())
    assert parsed.text == "a?[2J?b"


def test_an_unknown_status_is_a_failure():
    assert Reply(5, BOOT, 1, TARGET).verdict is Status.REFUSED
    assert Reply(77, BOOT, 1, TARGET).verdict is Status.FAILURE


@pytest.mark.parametrize("parse", [parse_request, parse_reply])
def test_a_length_is_judged_before_the_message_comes(parse):
    with pytest.raises(ProtocolError, match="a message of 65537 bytes"):
        parse(b"\xff\xff")
    with pytest.raises(ProtocolError, match="a message of 2 bytes"):
        parse(b"\0\0")
