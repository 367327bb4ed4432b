"""The inbound codecs under hypothesis: any split gives the same events, garbage only ProtocolError."""

import base64
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane.address import Address
from lane.errors import ProtocolError
from lane.proto.events import ConnectRequest, ForwardRequest, Refusal, ReplyBytes
from lane.proto.http import MAX_HEAD, Http
from lane.proto.http_heads import mended
from lane.proto.http_messages import HttpResponse
from lane.proto.socks4 import Socks4
from lane.proto.socks5 import Socks5
from tests.support.strategies import ips

LOGIN = (b"user", b"secret")
CODECS = [Socks5, Http, lambda: Socks5(LOGIN), lambda: Http(LOGIN, Address("a", 1)), Socks4]
IDS = ["socks5", "http", "socks5-login", "http-login", "socks4"]


def play(make, pieces):
    """All that a codec says about the pieces, an error included, and what is behind the request."""
    codec = make()
    events, body = [], None  # that of an exchange which goes on
    for piece in pieces:
        try:
            if body is None:
                codec.receive(piece)
            else:
                body += codec.upload(piece)
            while True:
                if body is not None:
                    if not codec.uploaded:
                        break
                    events.append(content(body))
                    body = None
                if (event := codec.next_event()) is None:
                    break
                events.append(event)
                if isinstance(event, ForwardRequest):
                    body = codec.upload(b"")
        except ProtocolError as error:
            return [*events, str(error)], None
    if body is not None:
        events.append(content(body))
    asked = bool(events) and isinstance(events[-1], ConnectRequest)
    return events, codec.trailing_data if asked else None


def content(body):
    """What a body says, however it was cut into chunks (a body of known length stays as it is)."""
    text = b""
    while match := re.match(rb"([0-9a-f]+)\r\n", body):
        size, start = int(match[1], 16), match.end()
        if not size or body[start + size : start + size + 2] != b"\r\n":
            break
        text += body[start : start + size]
        body = body[start + size + 2 :]
    return text + b"|" + body


def split(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


addresses = st.one_of(ips, st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,60}[a-z])?", fullmatch=True)).flatmap(
    lambda host: st.builds(Address, st.just(host), st.integers(1, 65535))
)

short = st.binary(max_size=255)
socks_logins = st.one_of(st.just(LOGIN), st.tuples(short, short)).map(
    lambda pair: b"\x01" + b"".join(bytes((len(x),)) + x for x in pair)
)
greetings = st.one_of(st.just(b"\x00\x02"), short).map(
    lambda methods: b"\x05" + bytes((len(methods),)) + methods
)
commands = st.one_of(st.just(1), st.integers(0, 255)).map(lambda command: bytes((5, command, 0)))
socks = st.builds(
    lambda *parts: b"".join(parts),
    greetings,
    st.one_of(socks_logins, st.just(b"")),
    commands,
    st.one_of(addresses.map(Address.pack), st.binary(max_size=20)),
    st.binary(max_size=40),
)
texts = st.one_of(
    st.binary(max_size=20),
    st.integers(250, 260).map(bytes),
    st.integers(250, 260).map(lambda size: b"n" * size),
)
socks4 = st.builds(
    lambda *parts: b"".join(parts),
    st.one_of(st.just(b"\x04\x01"), st.just(b"\x04\x02"), st.binary(min_size=2, max_size=2)),
    st.binary(min_size=2, max_size=2),
    st.one_of(st.just(b"\0\0\0\x01"), st.binary(min_size=4, max_size=4)),
    texts,
    st.sampled_from([b"\0", b""]),
    st.one_of(texts, addresses.map(lambda address: address.host.encode())),
    st.sampled_from([b"\0", b""]),
    st.binary(max_size=40),
)
http_logins = st.one_of(st.just(b":".join(LOGIN)), short).map(
    lambda text: b"Proxy-Authorization: Basic " + base64.b64encode(text) + b"\r\n"
)
heads = st.builds(
    lambda method, target, login, field, end, rest: (
        method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n" + login + field + end + rest
    ),
    st.sampled_from([b"CONNECT", b"POST", b"GET", b"HEAD", b""]),
    st.one_of(
        addresses.map(lambda address: str(address).encode()),
        addresses.map(lambda address: f"http://{address}/x".encode()),
        st.sampled_from([b"http://a", b"https://a/", b"/", b"/proxy.pac", b"*"]),
        short,
    ),
    st.one_of(http_logins, st.just(b"")),
    st.one_of(
        st.just(b""),
        st.binary(max_size=40),
        st.integers(0, 40).map(lambda size: b"Content-Length: %d" % size),
        st.sampled_from([b"Transfer-Encoding: chunked", b"Connection: close", b"Upgrade: websocket"]),
        st.integers(MAX_HEAD - 200, MAX_HEAD + 10).map(lambda size: b"X: " + b"x" * size),
    ),
    st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n", b""]),
    st.one_of(
        st.binary(max_size=40),
        st.lists(st.binary(max_size=20), max_size=3).map(
            lambda chunks: b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"\r\n"
        ),
    ),
)
http = st.lists(heads, min_size=1, max_size=3).map(b"".join)


@pytest.mark.parametrize("make", CODECS, ids=IDS)
@given(
    data=st.one_of(socks, socks4, http, st.binary(max_size=600)),
    cuts=st.lists(st.integers(0, 20000), max_size=12),
)
def test_any_split_gives_the_same(make, data, cuts):
    # Also: garbage only ever raises ProtocolError, since anything else gets out of `play`.
    whole = play(make, [data])
    assert play(make, split(data, cuts)) == whole
    if len(data) < 1000:
        assert play(make, [data[i : i + 1] for i in range(len(data))]) == whole
    for event in whole[0][:-1]:  # a ConnectRequest, a Refusal or an error is the last of all
        assert isinstance(event, ReplyBytes | ForwardRequest | bytes)


@given(target=addresses, rest=st.binary(max_size=100), cuts=st.lists(st.integers(0, 1000), max_size=8))
def test_good_requests_are_understood(target, rest, cuts):
    greeting = b"\x05\x02\x00\x02"
    request = b"\x05\x01\x00" + target.pack()
    login = b"\x01\x04user\x06secret"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode()
    request4 = b"\x04\x01" + target.port.to_bytes(2, "big") + b"\0\0\0\x07me\0" + target.host.encode() + b"\0"
    authorization = b"Proxy-Authorization: Basic " + base64.b64encode(b":".join(LOGIN)) + b"\r\n"
    for make, data in zip(
        CODECS,
        [
            greeting + request,
            head + b"\r\n",
            greeting + login + request,
            head + authorization + b"\r\n",
            request4,
        ],
        strict=True,
    ):
        events, trailing = play(make, split(data + rest, cuts))
        assert events[-1] == ConnectRequest(target)
        assert trailing == rest


@given(user=short, password=short)
def test_no_other_login_is_accepted(user, password):
    if (user, password) == LOGIN:
        return
    pair = b"".join(bytes((len(x),)) + x for x in (user, password))
    events, _ = play(CODECS[2], [b"\x05\x01\x02\x01" + pair])
    assert events[-1] == Refusal(b"\x01\x01")


bodies = st.one_of(
    st.binary(max_size=200).map(lambda data: (b"Content-Length: %d\r\n" % len(data), data, data)),
    st.lists(st.binary(min_size=1, max_size=50), max_size=5).map(
        lambda chunks: (
            b"Transfer-Encoding: chunked\r\n",
            b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n",
            b"".join(chunks),
        )
    ),
)


@given(
    exchanges=st.lists(st.tuples(addresses, bodies), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
)
def test_good_exchanges_follow_each_other(exchanges, cuts):
    data = b"".join(
        f"PUT http://{target}/ HTTP/1.1\r\nHost: x\r\n".encode() + field + b"\r\n" + sent
        for target, (field, sent, _) in exchanges
    )
    events, _ = play(Http, split(data, cuts))
    assert [event.target for event in events[::2]] == [target for target, _ in exchanges]
    for found, (_, (field, sent, text)) in zip(events[1::2], exchanges, strict=True):
        assert found == (text + b"|0\r\n\r\n" if b"chunked" in field else content(sent))


SPOILED = [b"Content-Length", b"Transfer-Encoding", b"A", b":", b" ", b"\t", b"5", b"chunked", b"identity"]
SPOILED += [b"\r\n", b"\n", b"\r", b"\0", b"\x0b", b",", b"\r\nB: c\r\n", b"\r\n "]
answers = st.builds(
    lambda interim, start, field, end, body: interim + start + field + end + body,
    st.sampled_from(
        [b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n"]
    ),
    st.sampled_from(
        [
            *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 \r\n", b"HTTP/1.1 304\r\n", b""),
            *(b"\r\nHTTP/1.1 200 OK\r\n", b"http/1.1  200\n", b"HTTP/2 200\r\n", b"ICY 200 OK\r\n"),
        ]
    ),
    st.one_of(
        st.integers(0, 40).map(lambda size: b"Content-Length: %d\r\n" % size),
        st.sampled_from([b"", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"]),
        st.lists(st.sampled_from(SPOILED), max_size=8).map(b"".join),
        st.binary(max_size=30),
    ),
    st.sampled_from([b"\r\n", b""]),
    bodies.map(lambda body: body[1]),
)


def passed_on(request, pieces):
    """What the application gets of an answer in `pieces`, and what becomes of the connections."""
    answer, out = HttpResponse(request), b""
    try:
        for piece in pieces:
            if answer.done:
                break
            out += answer.receive(piece, True)
        answer.end()
    except ProtocolError:
        return out if answer.started else b"", "broken", answer.done
    return out, answer.keep, answer.done


@given(
    data=st.one_of(answers, st.binary(max_size=100)),
    cuts=st.lists(st.integers(0, 500), max_size=8),
    start=st.sampled_from([b"GET http://a/ HTTP/1.1", b"GET http://a/ HTTP/1.0", b"HEAD http://a/ HTTP/1.1"]),
    upgrade=st.sampled_from([b"", b"Upgrade: websocket\r\n"]),
)
def test_any_split_of_an_answer_gives_the_same(data, cuts, start, upgrade):
    codec = Http()
    codec.receive(start + b"\r\nHost: x\r\n" + upgrade + b"\r\n")
    request = codec.next_event()
    whole, *state = passed_on(request, [data])
    for pieces in (split(data, cuts), [data[i : i + 1] for i in range(len(data))]):
        pieces = [piece for piece in pieces if piece]  # noqa: PLW2901
        out, *found = passed_on(request, pieces)
        assert found == state
        if b"101" not in out:  # a tunnel's bytes belong to whoever relays it
            head, _, body = out.partition(b"\r\n\r\n")
            first, _, rest = whole.partition(b"\r\n\r\n")
            assert head == first
            if state[0] != "broken":
                assert content(body) == content(rest)


@given(data=answers, start=st.sampled_from([b"GET", b"HEAD"]))
def test_whatever_comes_the_head_that_goes_on_has_one_meaning(data, start):
    codec = Http()
    codec.receive(start + b" http://a/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n")
    answer = HttpResponse(codec.next_event())
    try:
        out = answer.receive(data, True)
    except ProtocolError:
        return
    while out:
        head, _, out = out.partition(b"\r\n\r\n")
        assert mended(head + b"\r\n\r\n") == head + b"\r\n\r\n"
        names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
        assert len({b"content-length", b"transfer-encoding"} & set(names)) <= 1
        assert names.count(b"content-length") <= 1
        if head.split()[1] != b"100":
            break
