"""The HTTP codec: tunnels, exchanges, refusals, limits."""

import base64

import pytest

from lane.address import Address
from lane.errors import Status
from lane.proto.events import ConnectRequest, Refusal
from lane.proto.http import MAX_HEAD, Http
from lane.proto.http_heads import MAX_LINES
from tests.support.http_messages import HEAD, LOGIN, basic, event, head, refusal, response


@pytest.mark.parametrize(
    ("target", "address"),
    [
        (b"example.com:443", Address("example.com", 443)),
        (b"192.0.2.1:80", Address("192.0.2.1", 80)),
        (b"[2001:DB8::0:1]:65535", Address("2001:db8::1", 65535)),
        (b"n" * 255 + b":1", Address("n" * 255, 1)),
        ("straße.test:443".encode(), Address("xn--strae-oqa.test", 443)),
    ],
)
def test_connect(target, address):
    assert event(Http(), head(target)) == ConnectRequest(address)


@pytest.mark.parametrize(
    "data", [HEAD, HEAD.replace(b"\r\n", b"\n"), b"CONNECT example.com:443 HTTP/1.0\r\n\r\n"]
)
def test_single_bytes(data):
    codec = Http()
    for i in range(len(data) - 1):
        assert event(codec, data[i : i + 1]) is None
    assert event(codec, data[-1:]) == ConnectRequest(Address("example.com", 443))
    assert codec.trailing_data == b""


def test_bytes_behind_the_head_are_kept():
    codec = Http()
    assert event(codec, HEAD + b"early\r\n\r\n") == ConnectRequest(Address("example.com", 443))
    assert event(codec, b"birds") is None
    assert codec.trailing_data == b"early\r\n\r\nbirds"


def test_the_longest_head():
    assert MAX_HEAD == 65536
    padding = b"X: " + b"x" * (MAX_HEAD - len(head(b"a:1", b"X: ")))
    longest = head(b"a:1", padding)
    assert len(longest) == MAX_HEAD
    assert event(Http(), longest) == ConnectRequest(Address("a", 1))
    status, _, text = refusal(head(b"a:1", padding + b"x"))
    assert (status, text) == (431, f"a request head is at most {MAX_HEAD} bytes in {MAX_LINES} lines\n")


def test_the_most_lines_of_a_head():
    data = head(b"a:1", *[b"X:"] * (MAX_LINES - 3))
    assert event(Http(), data) == ConnectRequest(Address("a", 1))
    assert refusal(data.replace(b"X:", b"X:\r\nY:", 1))[0] == 431


def test_a_head_without_end_is_refused_at_the_limit():
    codec = Http()
    assert event(codec, b"A" * (MAX_HEAD - 1)) is None
    assert isinstance(event(codec, b"A"), Refusal)
    assert event(codec, HEAD) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\n\n",
        b"CONNECT\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",  # no Host
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\nbad line\r\n\r\n",
        b"CONNECT a b:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01 \x00\xff\r\n\r\n",
        head(b"a:1", b"Content-Length: x"),
        head(b"example.com"),
        head(b"example.com:"),
        head(b"example.com:0"),
        head(b"example.com:65536"),
        head(b":443"),
        head(b"[::1:443"),
        head(b"::1:443"),
        head(b"http://example.com:80"),
        head(b"a:" + b"1" * 5000),
        head(b"n" * 256 + b":1"),
    ],
)
def test_malformed(data):
    status, fields, text = refusal(data)
    assert status == 400
    assert fields[b"connection"] == b"close"
    assert 0 < len(text) < 400
    assert text.count("\n") == 1


@pytest.mark.parametrize("scheme", [b"Basic ", b"basic ", b"BASIC   "])
def test_good_login(scheme):
    data = head(b"a:1", basic(b"user:sec:ret", scheme))
    assert event(Http(LOGIN), data) == ConnectRequest(Address("a", 1))


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [basic(b"user:wrong")],
        [basic(b"wrong:sec:ret")],
        [basic(b"usersec:ret")],
        [basic(b"user")],
        [basic(b"user:sec:ret", b"Bearer ")],
        [b"Proxy-Authorization: Basic"],
        [b"Proxy-Authorization: Basic !!!"],
        [b"Proxy-Authorization: Basic !" + base64.b64encode(b"user:sec:ret")],
        [b"Proxy-Authorization: Basic dXNlcjpzZWM6cmV0x"],
        [b"Authorization: Basic " + base64.b64encode(b"user:sec:ret")],
    ],
)
def test_bad_login(fields):
    status, answer, _ = refusal(head(b"a:1", *fields), LOGIN)
    assert status == 407
    assert answer[b"proxy-authenticate"].startswith(b'Basic realm="lane"')


def test_a_stranger_learns_only_that_a_login_is_needed():
    assert refusal(head(b"/", method=b"GET"), LOGIN)[0] == 407


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.FAILURE, 502),
        (Status.NOT_ALLOWED, 403),
        (Status.NETWORK_UNREACHABLE, 502),
        (Status.HOST_UNREACHABLE, 502),
        (Status.REFUSED, 502),
        (Status.TTL_EXPIRED, 504),
        (Status.COMMAND_NOT_SUPPORTED, 501),
        (Status.ADDRESS_NOT_SUPPORTED, 400),
    ],
)
def test_refused(status, code):
    found, _, text = response(Http().refused(status, "so\r\nX-Injected: ü \udcff"))
    assert (found, text) == (code, "so\r\nX-Injected: ü ?\n")


def test_accepted():
    answer = Http().accepted(Address("192.0.2.1", 1))
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"
