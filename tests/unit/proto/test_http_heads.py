"""Heads of answers as they come, and in the form that the application gets."""

import pytest

from lane.errors import ProtocolError
from lane.proto.http_heads import HeadBuffer, HeadTooLong, mended

OK = b"HTTP/1.1 200 OK\r\n"
REGULAR = [
    OK + b"\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 200 \r\n\r\n",
    b"HTTP/1.0 404 Not  Found\r\nA:b\r\nC: \td \r\nE:\r\nF: \xe4\x01\r\n\r\n",
    OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",  # for others to judge
]


@pytest.mark.parametrize("head", REGULAR)
def test_what_is_regular_stays_as_it_is(head):
    assert mended(head) is head


STATUS_LINES = {
    b"http/1.1 200 ok": b"HTTP/1.1 200 ok",
    b"Http/1.0 200 OK": b"HTTP/1.0 200 OK",
    b"HTTP/1.1  200  OK": b"HTTP/1.1 200 OK",
    b"HTTP/1.1\t200\tOK": b"HTTP/1.1 200 OK",
    b" HTTP/1.1 200 OK": b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200OK": b"HTTP/1.1 200 OK",
    b"HTTP/1.2 200 OK": b"HTTP/1.1 200 OK",
    b"HTTP/1.10 200 OK": b"HTTP/1.0 200 OK",
    b"HTTP/1 200 OK": b"HTTP/1.0 200 OK",
    b"HTTP/2 200": b"HTTP/1.0 200 ",
    b"HTTP/2 200 ": b"HTTP/1.0 200 ",
    b"HTTP/2.0 200 OK": b"HTTP/1.0 200 OK",
    b"HTTP/3 204": b"HTTP/1.0 204 ",
    b"HTTP/0.9 200 OK": b"HTTP/1.0 200 OK",
    b"HTTP 200 OK": b"HTTP/1.0 200 OK",
    b"ICY 200 OK": b"HTTP/1.0 200 OK",
    b"icy 401 No": b"HTTP/1.0 401 No",
    b"HTTP/1.1 200 O\0K\x0b": b"HTTP/1.1 200 O K",
}


@pytest.mark.parametrize("line", STATUS_LINES, ids=repr)
def test_status_lines(line):
    assert mended(line + b"\r\nA: b\r\n\r\n") == STATUS_LINES[line] + b"\r\nA: b\r\n\r\n"


FIELDS = {
    b"X-Thing : 1": b"X-Thing: 1",
    b"X \t : 1": b"X: 1",
    b"A : 1\r\nContent-Length : 5": b"A: 1\r\nContent-Length: 5",
    b"A: 1\nB: 2": b"A: 1\r\nB: 2",
    b"A: 1\r\n 2\r\n\t3 \r\nB: 4": b"A: 1 2 3\r\nB: 4",
    b"A:\r\n 1": b"A: 1",
    b"A: 1\r\n \r\nB: 2": b"A: 1\r\nB: 2",
    b"Vary: Accept,\r\n Content-Length": b"Vary: Accept, Content-Length",
    b" A: 1\r\n B: 2\r\nC: 3": b"C: 3",  # RFC 9112 section 2.2
    b"no field\r\n and more\r\nA: 1": b"A: 1",
    b"A: 1\r\n: 2\r\n:": b"A: 1",
    b"two words: 1\r\nA: 1": b"A: 1",
    b"N\xc3\xa4me: 1\r\nA: 1": b"A: 1",
    b"HTTP/1.1 200 OK\r\nA: 1": b"A: 1",
    b"A: 1\r2\0003\x0b\x0c4\r": b"A: 1 2 3  4",
    b"Transfer-Encoding: Identity\r\nContent-Length: 5": b"Content-Length: 5",
    b"A: Content-Length: 5\r\nB : 1": b"A: Content-Length: 5\r\nB: 1",
}


@pytest.mark.parametrize("fields", FIELDS, ids=repr)
def test_fields(fields):
    assert mended(OK + fields + b"\r\n\r\n") == OK + FIELDS[fields] + b"\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1\r\n",
        b"HTTP/1.1 OK\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1200 OK\r\n",
        b"HTTP/ 200 OK\r\n",
        b"HTTPS/1.1 200 OK\r\n",
        b"HTP/1.1 200 OK\r\n",
        b"<html>\r\n",
        b"A: 1\r\n",
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_what_is_no_answer(head):
    with pytest.raises(ProtocolError, match="does not speak HTTP"):
        mended(head + b"\r\n")


UNCLEAR = {
    "no colon": b"Transfer-Encoding chunked",
    "a length without a colon": b"Content-Length 5",
    "a name with a control": b"Transfer-Encoding\x0b: chunked",
    "a name with a NUL": b"\0Content-Length: 5",
    "a name with a space": b"X Content-Length: 5",
    "before all fields": b" Content-Length: 5\r\nA: b",
    "in a line that goes on": b"A: b\r\n Transfer-Encoding: chunked",
    "a line that goes on": b"Transfer-Encoding:\r\n chunked",
    "a length that goes on": b"Content-Length: 1\r\n 2",
    "behind a bare CR": b"A: b\rContent-Length : 5",
    "behind a NUL": b"A: b\0transfer-encoding: chunked",
}


@pytest.mark.parametrize("fields", UNCLEAR.values(), ids=UNCLEAR)
def test_what_may_say_where_an_answer_ends_is_not_guessed(fields):
    with pytest.raises(ProtocolError, match="where it ends"):
        mended(OK + fields + b"\r\n\r\n")


def test_a_status_line_that_hides_a_length():
    with pytest.raises(ProtocolError, match="where it ends"):
        mended(b"HTTP/1.1 200 OK\rContent-Length: 5\r\n\r\n")


def test_many_lines_that_go_on():
    lines = [b"x"] * 30000
    joined = b"A: " + b" ".join(lines)
    assert mended(OK + b"A: " + b"\r\n ".join(lines) + b"\r\n\r\n") == OK + joined + b"\r\n\r\n"


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\r\n"])
def test_the_end_of_a_head(end):
    heads = HeadBuffer(100)
    for byte in b"first" + end[:-1]:
        heads.data.append(byte)
        assert heads.take() is None
    heads.data += end[-1:] + b"second"
    assert heads.take() == b"first" + end
    assert heads.take() is None
    assert heads.drain() == b"second"
    assert heads.drain() == b""


def test_a_head_has_a_limit():
    heads = HeadBuffer(10)
    heads.data += b"123456\r\n\r\n" + b"1234567\r\n\r\n"
    assert heads.take() == b"123456\r\n\r\n"
    with pytest.raises(HeadTooLong, match="too many bytes"):
        heads.take()
