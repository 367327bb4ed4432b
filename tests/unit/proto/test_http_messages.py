"""Answers on their way through the proxy: framing, fields, interim answers, what may follow."""

import pytest

from lane.errors import ProtocolError
from lane.proto.http import Http
from lane.proto.http_messages import MAX_ANSWER_HEAD, HttpResponse
from tests.support.http_messages import event, head


def asked(*fields, method=b"GET", version=b"1.1"):
    data = head(b"http://a/", *fields, method=method)
    return event(Http(), data.replace(b"HTTP/1.1", b"HTTP/" + version))


def answer(data, request=None, keep=True, end=False):
    """(what the application gets, the answer)."""
    made = HttpResponse(request or asked())
    out = made.receive(data, keep)
    if end:
        made.end()
    return out, made


OK = b"HTTP/1.1 200 OK\r\n"


def test_a_body_of_known_length():
    data = OK + b"A: b\r\nContent-Length: 3\r\n\r\n"
    out, made = answer(data + b"ab")
    assert out == data + b"ab"
    assert made.started
    assert not made.done
    with pytest.raises(ProtocolError, match="1 bytes before"):
        made.end()
    assert made.receive(b"c", True) == b"c"
    assert (made.done, made.keep, made.reusable) == (True, True, True)


def test_bytes_behind_an_answer_go_nowhere():
    for start in (b"HTTP/1.1 204 No Content\r\n\r\n", OK + b"Content-Length: 1\r\n\r\na"):
        out, made = answer(start + b"HTTP/1.1 200 OK\r\n\r\n")
        assert out == start
        assert (made.done, made.keep, made.reusable) == (True, True, False)


def test_a_body_in_chunks():
    data = OK + b"Transfer-Encoding: chunked\r\nTrailer: T\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n"
    out, made = answer(data + b"0\r\nT: 1\r\nConnection: x\r\n\r\n")
    fields = b"Trailer: T\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert out == OK + fields + b"5\r\nabcde\r\n0\r\nT: 1\r\n\r\n"
    assert (made.done, made.keep, made.reusable) == (True, True, True)


def test_chunks_that_break_off_are_no_end():
    _, made = answer(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    with pytest.raises(ProtocolError, match="last chunk"):
        made.end()
    with pytest.raises(ProtocolError):
        made.receive(b"no chunk\r\n", True)


def test_a_body_until_close():
    out, made = answer(OK + b"\r\nabc")
    assert out == OK + b"Connection: close\r\n\r\nabc"
    assert not made.done
    assert made.receive(b"def", True) == b"def"
    made.end()
    assert (made.done, made.keep, made.reusable) == (True, False, False)


@pytest.mark.parametrize("fields", [[], [b"Connection: close"]])
def test_http_1_0_gets_no_chunks(fields):
    out, made = answer(
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n",
        asked(*fields, version=b"1.0"),
    )
    assert out == OK + b"Connection: close\r\n\r\nabc"
    assert (made.done, made.keep) == (True, False)


@pytest.mark.parametrize(
    ("data", "request_", "expected"),
    [
        (OK + b"Content-Length: 9\r\n\r\n", asked(method=b"HEAD"), OK + b"Content-Length: 9\r\n\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", asked(method=b"HEAD"), OK + b"\r\n"),
        (b"HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n", None, b"HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n"),
        (b"HTTP/1.1 204 \r\nContent-Length: 9\r\n\r\n", None, b"HTTP/1.1 204 \r\n\r\n"),
    ],
)
def test_answers_without_a_body(data, request_, expected):
    out, made = answer(data, request_)
    assert out == expected
    assert (made.done, made.keep, made.reusable) == (True, True, True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"Connection: x, keep-alive\r\nX: 1\r\nKeep-Alive: timeout=1\r\nY: 2\r\n", b"Y: 2\r\n"),
        (b"Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n", b""),
        (b"Set-Cookie: a\r\nset-cookie: b\r\n", b"Set-Cookie: a\r\nset-cookie: b\r\n"),
    ],
)
def test_fields_of_the_other_connection_end_here(fields, expected):
    out, _ = answer(OK + fields + b"Content-Length: 0\r\n\r\n")
    assert out == OK + expected + b"Content-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Content-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", False),
        (OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    ],
)
def test_whether_the_target_takes_more(data, reusable):
    out, made = answer(data)
    assert b"HTTP/1.1 200" in out
    assert b"close" not in out.lower()
    assert (made.done, made.keep, made.reusable) == (True, True, reusable)


@pytest.mark.parametrize(("request_", "keep"), [(asked(b"Connection: close"), True), (asked(), False)])
def test_an_application_that_does_not_go_on_is_told(request_, keep):
    out, made = answer(OK + b"Content-Length: 0\r\n\r\n", request_, keep)
    assert out == OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    assert not made.keep


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


def test_interim_answers_are_passed_on():
    made = HttpResponse(asked())
    assert (
        made.receive(b"HTTP/1.1 100 Continue\r\n\r\n" + INTERIM, False)
        == b"HTTP/1.1 100 Continue\r\n\r\n" + INTERIM
    )
    assert not made.started
    assert made.receive(OK + b"Content-Length: 0\r\n\r\n", True) == OK + b"Content-Length: 0\r\n\r\n"
    assert made.done


def test_http_1_0_gets_no_interim_answers():
    out, _ = answer(INTERIM + OK + b"Content-Length: 0\r\n\r\n", asked(version=b"1.0"))
    assert out == OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n"


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
SWITCH += b"Sec-WebSocket-Accept: x\r\nConnection: Upgrade\r\n\r\n"


def test_an_upgrade():
    out, made = answer(SWITCH + b"\x81\x00", asked(b"Upgrade: websocket", b"Connection: Upgrade"))
    fields = b"Sec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert out == b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\x81\x00"
    assert (made.upgraded, made.done, made.reusable) == (True, True, False)


@pytest.mark.parametrize(
    "data",
    [
        SWITCH,  # nobody asked for it
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"\x15\x03\x01\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"X: a\rContent-Length: 1\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length : 2\r\n\r\n",
        OK + b"Content-Length : 1 2\r\n\r\n",
        OK + b"Content-Length : 1\x0b\r\n\r\n",
        OK + b"Content-Length : 1\0\r\n\r\n",
        OK + b"Transfer-Encoding : chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding : \x0bchunked\r\n\r\n",
        OK + b"Transfer-Encoding : xchunked\r\n\r\n",
        OK + b"X: " + b"x" * MAX_ANSWER_HEAD,
    ],
)
def test_malformed_answers(data):
    made = HttpResponse(asked())
    with pytest.raises(ProtocolError):
        made.receive(data, True)
    assert not made.started


def test_no_answer():
    made = HttpResponse(asked())
    assert made.empty
    with pytest.raises(ProtocolError, match="without an answer"):
        made.end()
    made.receive(OK, True)
    assert not made.empty
    with pytest.raises(ProtocolError, match="without an answer"):
        made.end()


GAVE_UP = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("pieces", [[GAVE_UP], [GAVE_UP[:9], GAVE_UP[9:]]])
def test_who_gave_up_waiting_has_not_answered_what_can_go_elsewhere(pieces):
    made = HttpResponse(asked(), again=True)
    with pytest.raises(ProtocolError, match="gave up"):
        for piece in pieces:
            made.receive(piece, True)
    assert made.empty
    assert not made.started


def test_who_gave_up_waiting_has_answered_what_cannot():
    assert answer(GAVE_UP)[0] == GAVE_UP
    made = HttpResponse(asked(), again=True)
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert made.receive(hints + GAVE_UP, True) == hints + GAVE_UP  # it knows the request


MENDED = b"HTTP/1.1 200 OK\nX : y\nContent-Length : 2\n\n"


def test_an_answer_whose_head_was_mended_is_the_last_of_its_connection():
    out, made = answer(MENDED + b"ok")
    assert out == OK + b"X: y\r\nContent-Length: 2\r\n\r\nok"
    assert (made.done, made.keep, made.reusable) == (True, True, False)
    _, made = answer(INTERIM.replace(b": ", b" :") + OK + b"Content-Length: 0\r\n\r\n")
    assert (made.done, made.keep, made.reusable) == (True, True, False)


def test_chunks_behind_a_head_that_was_mended():
    out, made = answer(b"http/1.1 200\r\nTransfer-Encoding : Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    assert out == b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    assert (made.done, made.reusable) == (True, False)


@pytest.mark.parametrize("empty", [b"\r\n", b"\n", b"\r\n\n\r\n"])
def test_empty_lines_before_heads_are_skipped(empty):
    out, made = answer(empty + INTERIM + empty + OK + b"Content-Length: 0\r\n\r\n")
    assert out == INTERIM + OK + b"Content-Length: 0\r\n\r\n"
    assert (made.done, made.reusable) == (True, True)


def test_empty_lines_have_an_end():
    made = HttpResponse(asked())
    with pytest.raises(ProtocolError):
        for _ in range(MAX_ANSWER_HEAD):
            made.receive(b"\r\n", True)
    assert not made.started


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_the_longest_head_of_an_answer(size):
    end = b"Content-Length: 0\r\n\r\n"
    longest = OK + b"X: " + b"x" * (MAX_ANSWER_HEAD - len(OK + b"X: \r\n" + end)) + b"\r\n" + end
    assert len(longest) == MAX_ANSWER_HEAD
    for data, good in ((longest, True), (longest.replace(b"X: ", b"X: x"), False)):
        made = HttpResponse(asked())
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        if good:
            assert b"".join(made.receive(piece, True) for piece in pieces) == data
        else:
            with pytest.raises(ProtocolError):
                for piece in pieces:
                    made.receive(piece, True)


def test_what_is_no_http_is_known_before_it_ends():
    made = HttpResponse(asked())
    with pytest.raises(ProtocolError, match="does not speak HTTP"):
        made.receive(b"220 mail.example ESMTP", True)
