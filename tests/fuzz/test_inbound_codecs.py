"""The inbound codecs under hypothesis: any split gives the same events, garbage only ProtocolError."""

import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane.address import Address
from lane.errors import ProtocolError
from lane.proto.events import Refusal, Reply, Request
from lane.proto.http import MAX_HEAD, HttpConnect
from lane.proto.socks5 import Socks5

LOGIN = (b"user", b"secret")
CODECS = [Socks5, HttpConnect, lambda: Socks5(LOGIN), lambda: HttpConnect(LOGIN)]
IDS = ["socks5", "http", "socks5-login", "http-login"]


def play(make, pieces):
    """All that a codec says about the pieces, an error included, and what is behind the request."""
    codec = make()
    events = []
    for piece in pieces:
        codec.receive(piece)
        try:
            while (event := codec.next_event()) is not None:
                events.append(event)
        except ProtocolError as error:
            return [*events, str(error)], None
    asked = bool(events) and isinstance(events[-1], Request)
    return events, codec.trailing_data if asked else None


def split(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


addresses = st.one_of(
    st.ip_addresses().map(str), st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,60}[a-z])?", fullmatch=True)
).flatmap(lambda host: st.builds(Address, st.just(host), st.integers(1, 65535)))

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
http_logins = st.one_of(st.just(b":".join(LOGIN)), short).map(
    lambda text: b"Proxy-Authorization: Basic " + base64.b64encode(text) + b"\r\n"
)
http = st.builds(
    lambda method, target, login, field, end, rest: (
        method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n" + login + field + end + rest
    ),
    st.sampled_from([b"CONNECT", b"CONNECT", b"GET", b""]),
    st.one_of(addresses.map(lambda address: str(address).encode()), short),
    st.one_of(http_logins, st.just(b"")),
    st.one_of(
        st.just(b""),
        st.binary(max_size=40),
        st.integers(MAX_HEAD - 200, MAX_HEAD + 10).map(lambda size: b"X: " + b"x" * size),
    ),
    st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n", b""]),
    st.binary(max_size=40),
)


@pytest.mark.parametrize("make", CODECS, ids=IDS)
@given(
    data=st.one_of(socks, http, st.binary(max_size=600)), cuts=st.lists(st.integers(0, 20000), max_size=12)
)
def test_any_split_gives_the_same(make, data, cuts):
    # Also: garbage only ever raises ProtocolError, since anything else gets out of `play`.
    whole = play(make, [data])
    assert play(make, split(data, cuts)) == whole
    if len(data) < 1000:
        assert play(make, [data[i : i + 1] for i in range(len(data))]) == whole
    for event in whole[0][:-1]:
        assert isinstance(event, Reply)  # a Request, a Refusal or an error is the last of all


@given(target=addresses, rest=st.binary(max_size=100), cuts=st.lists(st.integers(0, 1000), max_size=8))
def test_good_requests_are_understood(target, rest, cuts):
    greeting = b"\x05\x02\x00\x02"
    request = b"\x05\x01\x00" + target.pack()
    login = b"\x01\x04user\x06secret"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode()
    authorization = b"Proxy-Authorization: Basic " + base64.b64encode(b":".join(LOGIN)) + b"\r\n"
    for make, data in zip(
        CODECS,
        [greeting + request, head + b"\r\n", greeting + login + request, head + authorization + b"\r\n"],
        strict=True,
    ):
        events, trailing = play(make, split(data + rest, cuts))
        assert events[-1] == Request(target)
        assert trailing == rest


@given(user=short, password=short)
def test_no_other_login_is_accepted(user, password):
    if (user, password) == LOGIN:
        return
    pair = b"".join(bytes((len(x),)) + x for x in (user, password))
    events, _ = play(CODECS[2], [b"\x05\x01\x02\x01" + pair])
    assert events[-1] == Refusal(b"\x01\x01")
