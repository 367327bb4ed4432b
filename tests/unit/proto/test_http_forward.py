"""Plain HTTP in the codec: what a target is sent, and all that is refused because it has two meanings."""

import pytest

from lane.address import Address
from lane.errors import ProtocolError, Status
from lane.proto.events import ConnectRequest, Refusal, ReplyBytes
from lane.proto.http import MAX_SKIPPED, Http
from tests.support.http_messages import HEAD, LOGIN, basic, event, head, refusal, response

NEXT = b"GET http://b/ HTTP/1.1\r\nHost: b\r\n\r\n"
NO_WEB_SERVER = "this is a proxy, and no web server: set it as the SOCKS5 or HTTP proxy of an application\n"


@pytest.mark.parametrize(
    ("method", "target", "code", "text"),
    [
        (b"GET", b"/", 404, NO_WEB_SERVER),
        (b"POST", b"/proxy.pac", 404, NO_WEB_SERVER),
        (b"GET", b"/proxy.pac", 404, NO_WEB_SERVER),  # nobody asked for one
        (b"OPTIONS", b"*", 400, "malformed URL: expected http://HOST[:PORT]/PATH\n"),
        (b"GET", b"example.com/", 400, "malformed URL: expected http://HOST[:PORT]/PATH\n"),
        (
            b"GET",
            b"https://a/",
            501,
            "https:// is not forwarded: http:// is, and CONNECT leads to all else\n",
        ),
        (b"GET", b"FTP://a/", 501, "FTP:// is not forwarded: http:// is, and CONNECT leads to all else\n"),
    ],
)
def test_what_is_not_forwarded(method, target, code, text):
    found = event(Http(), head(target, method=method))
    assert isinstance(found, Refusal if code == 400 else ReplyBytes)
    assert response(found.data)[::2] == (code, text)


@pytest.mark.parametrize(
    ("target", "address", "start"),
    [
        (b"http://example.com/a?b=c", ("example.com", 80), b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\n"),
        (b"HTTP://example.com:8080", ("example.com", 8080), b"GET / HTTP/1.1\r\nHost: example.com:8080\r\n"),
        (b"http://example.com:/", ("example.com", 80), b"GET / HTTP/1.1\r\nHost: example.com\r\n"),
        (b"http://a?//b:1/@", ("a", 80), b"GET /?//b:1/@ HTTP/1.1\r\nHost: a\r\n"),
        (
            b"http://[2001:DB8::0:1]:81/",
            ("2001:db8::1", 81),
            b"GET / HTTP/1.1\r\nHost: [2001:DB8::0:1]:81\r\n",
        ),
    ],
)
def test_an_absolute_target(target, address, start):
    found = event(Http(), head(target, b"Accept: */*", method=b"GET"))
    assert found.target == Address(*address)
    assert found.head == start + b"Accept: */*\r\n\r\n"  # and the application's Host is gone


@pytest.mark.parametrize(
    ("target", "address", "start"),
    [
        ("http://a/ü", "a", b"GET /%C3%BC HTTP/1.1\r\nHost: a\r\n"),
        ("http://a?q=€/%C3%BC&x", "a", b"GET /?q=%E2%82%AC/%C3%BC&x HTTP/1.1\r\nHost: a\r\n"),
        ("http://[::1]:80/ü", "::1", b"GET /%C3%BC HTTP/1.1\r\nHost: [::1]:80\r\n"),
        ("http://A:80/ü:@/ü", "A", b"GET /%C3%BC:@/%C3%BC HTTP/1.1\r\nHost: A:80\r\n"),
        (
            "HTTP://Bücher.test/ü",
            "xn--bcher-kva.test",
            b"GET /%C3%BC HTTP/1.1\r\nHost: xn--bcher-kva.test\r\n",
        ),
        ("http://straße.test:80", "xn--strae-oqa.test", b"GET / HTTP/1.1\r\nHost: xn--strae-oqa.test:80\r\n"),
    ],
)
def test_raw_utf_8_in_a_target(target, address, start):
    found = event(Http(), head(target.encode(), method=b"GET"))
    assert found.target == Address(address, 80)
    assert found.head == start + b"\r\n"


def test_raw_bytes_of_another_encoding_stay_what_they_are():
    assert event(Http(), head(b"http://a/\xfc", method=b"GET")).head.startswith(b"GET /%FC HTTP/1.1\r\n")


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_only_the_target_is_encoded(line_end):
    data = head("http://a/ü".encode(), "X: ü".encode(), method=b"GET").replace(b"\r\n", line_end)
    assert event(Http(), data).head == "GET /%C3%BC HTTP/1.1\r\nHost: a\r\nX: ü\r\n\r\n".encode()


@pytest.mark.parametrize("host", [b"\xfc.test", "\u2025".encode(), "ü@a".encode(), "ü b".encode()])
def test_raw_bytes_that_are_no_name(host):
    for target, method in ((b"http://%b/", b"GET"), (b"%b:443", b"CONNECT")):
        status, _, text = refusal(head(target % host, method=method))
        assert (status, text.count("\n")) == (400, 1)


@pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"1", b"0"), (b"10", b"9"), (b"010", b"9"), (b"1000000000", b"999999998"), (b"9" * 5000, b"999999998")],
)
def test_each_proxy_counts_one_less(method, value, expected):
    found = event(Http(), head(b"http://a/", b"X: y", b"max-forwards: " + value, method=method))
    assert found.head == method + b" / HTTP/1.1\r\nHost: a\r\nX: y\r\nMax-Forwards: " + expected + b"\r\n\r\n"


@pytest.mark.parametrize("value", [b"0", b"1", b"x"])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT"])
def test_other_methods_are_not_counted(method, value):
    assert sent(b"Max-Forwards: " + value, method=method) == [b"Max-Forwards: " + value]


@pytest.mark.parametrize("target", [b"http://a/", b"http://a", b"*", b"/"])
@pytest.mark.parametrize("zero", [b"0", b"000"])
def test_options_that_end_here(target, zero):
    codec = Http()
    found = event(codec, head(target, b"Max-Forwards: " + zero, method=b"OPTIONS") + NEXT)
    assert isinstance(found, ReplyBytes)
    assert found.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert found.data.endswith(b"\r\n\r\n")
    assert b"\r\nContent-Length: 0\r\nAllow: CONNECT, DELETE, GET, " in found.data
    assert codec.next_event().target == Address("b", 80)


def test_a_trace_that_ends_here_shows_what_came_but_no_secrets():
    codec = Http(LOGIN)
    secrets = basic(b"user:sec:ret"), b"authorization: x", b"Cookie: a", b"Cookie: b"
    shown = head("http://a/ü".encode(), b"Max-Forwards: 0", b"X: Cookie: c", method=b"TRACE")
    found = event(
        codec, head("http://a/ü".encode(), b"Max-Forwards: 0", *secrets, b"X: Cookie: c", method=b"TRACE")
    )
    status, fields, text = response(found.data)
    assert (status, fields[b"content-type"], text.encode()) == (200, b"message/http", shown)


def test_who_may_not_pass_learns_nothing_from_a_trace():
    assert refusal(head(b"http://a/", b"Max-Forwards: 0", method=b"TRACE"), LOGIN)[0] == 407


@pytest.mark.parametrize(
    "fields", [[b"-1"], [b"x"], [b""], [b"1.5"], [b"1, 2"], [b"+1"], [b"1", b"1"], [b"1 0"]]
)
def test_a_malformed_max_forwards(fields):
    data = head(b"http://a/", *(b"Max-Forwards: " + value for value in fields), method=b"TRACE")
    assert refusal(data)[0] == 400


def test_options_of_a_whole_server():
    assert event(Http(), head(b"http://a", method=b"OPTIONS")).head.startswith(
        b"OPTIONS * HTTP/1.1\r\nHost: a"
    )
    assert event(Http(), head(b"http://a/", method=b"OPTIONS")).head.startswith(b"OPTIONS / HTTP/1.1")


def sent(*fields, method=b"GET"):
    """The fields that a target is sent."""
    found = event(Http(), head(b"http://a/", *fields, method=method))
    return found.head.split(b"\r\n")[2:-2]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([b"Proxy-Connection: keep-alive", b"Keep-Alive: timeout=5", b"Connection: keep-alive"], []),
        ([b"Connection: a, B", b"A: 1", b"b: 2", b"C: 3", b"Connection: d", b"D: 4"], [b"C: 3"]),
        ([b"Proxy-Authorization: Basic eA==", b"Proxy-Authenticate: x"], []),
        ([b"Authorization: Basic eA==", b"Cookie: a", b"cookie: b"],) * 2,
        ([b"TE: gzip, trailers", b"Connection: TE"], [b"Connection: TE", b"TE: trailers"]),
        ([b"TE: gzip"], []),
        ([b"Upgrade: h2c", b"HTTP2-Settings: x", b"Connection: Upgrade, HTTP2-Settings"], []),
        ([b"Upgrade: websocket", b"Connection: Upgrade"], [b"Connection: Upgrade", b"Upgrade: websocket"]),
        ([b"Connection: close"], [b"Connection: close"]),
        ([b"Content-Length: 3", b"X: y"], [b"X: y", b"Content-Length: 3"]),
        ([b"Content-Length: 3", b"Connection: content-length"], [b"Content-Length: 3"]),
        ([b"Transfer-Encoding: Chunked", b"Trailer: T"], [b"Trailer: T", b"Transfer-Encoding: chunked"]),
        ([b"Expect: 100-continue", b"Content-Length: 3"],) * 2,
    ],
)
def test_fields_of_this_connection_end_here(fields, expected):
    assert sent(*fields) == expected


def test_an_http_1_0_application():
    data = (
        b"POST http://a/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\nUpgrade: websocket\r\n\r\n"
    )
    found = event(Http(), data)
    fields = b"Host: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
    assert found.head == b"POST / HTTP/1.1\r\n" + fields
    assert (found.keep, found.modern, found.upgrade) == (False, False, False)


TWO_WAYS_TO_READ = {
    "both framings": [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    "both framings, the other way": [b"Transfer-Encoding: chunked", b"content-length: 0"],
    "two lengths": [b"Content-Length: 5", b"Content-Length: 6"],
    "the same length twice": [b"Content-Length: 5", b"Content-Length: 5"],
    "a list of lengths": [b"Content-Length: 5, 5"],
    "a signed length": [b"Content-Length: +5"],
    "a negative length": [b"Content-Length: -1"],
    "a hexadecimal length": [b"Content-Length: 0x5"],
    "a length with an underscore": [b"Content-Length: 1_0"],
    "an empty length": [b"Content-Length:"],
    "a huge length": [b"Content-Length: " + b"9" * 21],
    "another coding": [b"Transfer-Encoding: xchunked"],
    "two codings": [b"Transfer-Encoding: gzip, chunked"],
    "chunked twice": [b"Transfer-Encoding: chunked, chunked"],
    "two fields of codings": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
    "identity": [b"Transfer-Encoding: identity"],
    "no coding": [b"Transfer-Encoding:"],
    "a quoted coding": [b'Transfer-Encoding: "chunked"'],
    "a vertical tab": [b"Transfer-Encoding: \x0bchunked"],
    "a folded line": [b"X: y", b" Transfer-Encoding: chunked"],
    "a folded value": [b"Transfer-Encoding:", b"\tchunked"],
    "a space before the colon": [b"Transfer-Encoding : chunked"],
    "a tab before the colon": [b"Content-Length\t: 5"],
    "no name": [b": x"],
    "no colon": [b"Transfer-Encoding chunked"],
    "a bare CR": [b"X: y\rTransfer-Encoding: chunked"],
    "a CR at the end": [b"X: y\r"],
    "a NUL": [b"X: a\0b"],
    "a NUL in a name": [b"X\0: a"],
    "two hosts": [b"Host: b"],
}


@pytest.mark.parametrize("fields", TWO_WAYS_TO_READ.values(), ids=TWO_WAYS_TO_READ)
@pytest.mark.parametrize(
    ("method", "target"),
    [(b"POST", b"http://a/"), (b"CONNECT", b"a:1"), (b"GET", b"/")],
    ids=lambda x: x.decode(),
)
def test_what_could_be_read_in_two_ways_is_refused(method, target, fields):
    codec = Http()
    found = event(codec, head(target, *fields, method=method) + b"GET http://b/ HTTP/1.1\r\nHost: b\r\n\r\n")
    assert isinstance(found, Refusal)
    status, answer, text = response(found.data)
    assert (status, answer[b"connection"]) == (400, b"close")
    assert text.count("\n") == 1
    assert codec.next_event() is None  # what follows is never taken for a request


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://a/ HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/0.9\r\n\r\n",
        b"GET http://a/\r\n\r\n",
        b"GET http://a/ http/1.1\r\nHost: a\r\n\r\n",
        b"GET  http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET http://a/\tb HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\n\r\n",
        b"POST http://a/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        head(b"a:1", b"Content-Length: 4"),
        head(b"a:1", b"Transfer-Encoding: chunked"),
        *(
            head(b"http://" + rest, method=b"GET")
            for rest in (
                b"", b"/", b":80/", b"?a", b"user@a/", b"u:p@a/", b"a:b@c/", b"a\\@b/", b"a#b", b"a/#b",
                b"a%00/", b"a:0/", b"a:65536/", b"a:x/", b"a:1:2/", b"::1/", b"[::1/", b"[::1]x/",
                b"[::1%eth0]/", b'a"b/', b"a<b/", b"\xe4/", b"n" * 256 + b"/", b"a:" + b"1" * 500 + b"/",
            )
        ),
    ],
)  # fmt: skip
def test_other_malformed_requests(data):
    assert refusal(data)[0] == 400


def body(codec, *pieces):
    """What a target is sent of a body."""
    return b"".join(codec.upload(piece) for piece in pieces)


def test_a_body_of_known_length_ends_where_it_ends():
    codec = Http()
    assert not event(codec, head(b"http://a/", b"Content-Length: 7", method=b"POST") + b"abc").repeatable
    assert body(codec, b"", b"de", b"fgGET http://b/ HTTP/1.1\r\n") == b"abcdefg"
    assert codec.uploaded
    assert event(codec, b"Host: b\r\n\r\n").target == Address("b", 80)


def test_a_body_in_chunks_goes_out_in_chunks():
    codec = Http()
    event(
        codec,
        head(b"http://a/", b"Transfer-Encoding: chunked", method=b"POST") + b"3;x=y\r\nabc\r\n1\r\nd\r\n",
    )
    assert body(codec, b"") == b"4\r\nabcd\r\n"
    assert body(codec, b"2 ", b"\r\nefxx"[:4]) == b"2\r\nef\r\n"
    trailers = b"T: 1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: c\r\n\r\n"
    assert body(codec, b"\r\n0\r\n", trailers + b"next") == b"0\r\nT: 1\r\n\r\n"
    assert codec.uploaded
    assert codec.trailing_data == b"next"


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n", b"0x5\r\nabcde\r\n", b"+5\r\nabcde\r\n", b"-1\r\n", b" 5\r\nabcde\r\n", b"5 5\r\nabcde\r\n",
        b"5,5\r\nabcde\r\n", b"\r\n5\r\nabcde\r\n", b"5\nabcde\r\n", b"5\rabcde\r\n", b"5;\nabcde\r\n",
        b"2\r\nabcde\r\n", b"2\r\nab\n\r", b"2\r\nab\r\r", b"1" * 21 + b"\r\n", b"1" * 20000,
        b"1;" + b"x" * 20000, b"0\r\nbad trailer\r\n\r\n", b"0\r\n" + b"x" * 20000,
        b"_1\r\na\r\n", "\u0661\r\na\r\n".encode(),
    ],
)  # fmt: skip
def test_malformed_chunks(chunks):
    codec = Http()
    event(codec, head(b"http://a/", b"Transfer-Encoding: chunked", method=b"POST"))
    with pytest.raises(ProtocolError):
        codec.upload(chunks)


@pytest.mark.parametrize("size", [0, 5, MAX_SKIPPED])
def test_an_error_skips_a_small_body_and_goes_on(size):
    codec = Http(LOGIN)
    found = event(codec, head(b"http://a/", b"Content-Length: %d" % size, method=b"POST"))
    assert isinstance(found, ReplyBytes)
    status, fields, _ = response(found.data)
    assert (status, b"connection" in fields) == (407, False)
    good = NEXT[:-2] + basic(b"user:sec:ret") + b"\r\n\r\n"
    assert event(codec, b"x" * size + good).target == Address("b", 80)


@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Length: %d" % (MAX_SKIPPED + 1)],
        [b"Transfer-Encoding: chunked"],
        [b"Expect: 100-continue", b"Content-Length: 5"],  # which may never come
        [b"Connection: close"],
    ],
)
def test_an_error_ends_what_cannot_go_on(fields):
    codec = Http(LOGIN)
    found = event(codec, head(b"http://a/", *fields, method=b"POST") + NEXT)
    assert isinstance(found, Refusal)
    status, answer, _ = response(found.data)
    assert (status, answer[b"connection"]) == (407, b"close")
    assert codec.next_event() is None


@pytest.mark.parametrize("size", [0, 5])
def test_a_guess_ends_the_connection(size):
    codec = Http(LOGIN)
    assert codec.login is None
    guess = [basic(b"user:wrong"), b"Content-Length: %d" % size]
    assert isinstance(event(codec, head(b"http://a/", *guess, method=b"POST")), Refusal)
    assert codec.login is False


def test_a_tunnel_after_407():
    codec = Http(LOGIN)
    assert isinstance(event(codec, HEAD), ReplyBytes)
    assert event(codec, HEAD[:-2] + basic(b"user:sec:ret") + b"\r\n\r\nxyz") == ConnectRequest(
        Address("example.com", 443)
    )
    assert codec.trailing_data == b"xyz"


def test_failures_of_an_exchange_let_the_connection_go_on():
    codec = Http()
    event(codec, NEXT + NEXT)
    found = codec.failed(Status.NOT_ALLOWED, "not allowed")
    assert isinstance(found, ReplyBytes)
    assert response(found.data)[::2] == (403, "not allowed\n")
    assert event(codec, b"").target == Address("b", 80)


def test_the_answer_to_head_has_no_body():
    data = event(Http(), head(b"/", method=b"HEAD")).data
    assert data.endswith(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(NO_WEB_SERVER) in data


def test_a_short_head_behind_a_long_one_that_came_in_pieces():
    codec = Http()
    assert event(codec, NEXT[:-2] + b"X: " + b"x" * 1000) is None
    assert event(codec, b"\r\n\r\n").target == Address("b", 80)
    assert event(codec, NEXT).target == Address("b", 80)


def test_an_empty_line_between_requests_is_skipped():
    codec = Http()
    assert event(codec, NEXT + b"\r\n" + NEXT).keep
    assert event(codec, b"").target == Address("b", 80)
    assert isinstance(event(codec, b"\r\n\r\n"), Refusal)
