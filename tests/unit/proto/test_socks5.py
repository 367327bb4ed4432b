"""The SOCKS5 codec: what RFC 1928 and RFC 1929 say, byte by byte."""

import pytest

from lane.address import Address
from lane.errors import ProtocolError, Status
from lane.proto.events import AssociateRequest, BindRequest, ConnectRequest, Refusal, ReplyBytes
from lane.proto.socks5 import Socks5

TARGET = Address("example.com", 443)
CONNECT = b"\x05\x01\x00" + TARGET.pack()
LOGIN = (b"user", b"secret")


def events(codec, data, step=None):
    """All events of `data`, fed in pieces of `step` bytes."""
    found = []
    for start in range(0, len(data), step or len(data)):
        codec.receive(data[start : start + (step or len(data))])
        while (event := codec.next_event()) is not None:
            found.append(event)
    return found


def login(user, password):
    return b"\x05\x01\x02\x01" + bytes((len(user),)) + user + bytes((len(password),)) + password


@pytest.mark.parametrize("step", [None, 1, 2, 3])
@pytest.mark.parametrize(
    "target", [TARGET, Address("192.0.2.1", 80), Address("2001:db8::1", 65535), Address("n" * 255, 1)]
)
@pytest.mark.parametrize(("command", "event"), [(1, ConnectRequest), (2, BindRequest), (3, AssociateRequest)])
def test_what_is_asked_for(target, step, command, event):
    data = b"\x05\x01\x00\x05" + bytes((command,)) + b"\x00" + target.pack()
    assert events(Socks5(), data, step) == [ReplyBytes(b"\x05\x00"), event(target)]


def test_no_event_before_the_last_byte():
    codec = Socks5()
    assert events(codec, b"\x05\x01\x00" + CONNECT[:-1], 1) == [ReplyBytes(b"\x05\x00")]
    assert events(codec, CONNECT[-1:]) == [ConnectRequest(TARGET)]


def test_bytes_behind_the_request_are_kept():
    codec = Socks5()
    assert events(codec, b"\x05\x01\x00" + CONNECT + b"early")[-1] == ConnectRequest(TARGET)
    codec.receive(b" birds")
    assert codec.next_event() is None
    assert codec.trailing_data == b"early birds"


def test_nothing_behind_the_request():
    codec = Socks5()
    events(codec, b"\x05\x01\x00" + CONNECT)
    assert codec.trailing_data == b""


@pytest.mark.parametrize(
    ("credentials", "offered", "answer"),
    [
        (None, b"\x00", ReplyBytes(b"\x05\x00")),
        (None, b"\x02\x00", ReplyBytes(b"\x05\x00")),
        (None, bytes(range(255)), ReplyBytes(b"\x05\x00")),
        (None, b"\x02", Refusal(b"\x05\xff")),
        (None, b"", Refusal(b"\x05\xff")),
        (LOGIN, b"\x02", ReplyBytes(b"\x05\x02")),
        (LOGIN, b"\x00\x02", ReplyBytes(b"\x05\x02")),
        (LOGIN, b"\x00\x01", Refusal(b"\x05\xff")),
        (LOGIN, b"", Refusal(b"\x05\xff")),
    ],
)
def test_method_choice(credentials, offered, answer):
    assert events(Socks5(credentials), b"\x05" + bytes((len(offered),)) + offered) == [answer]


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("credentials", [LOGIN, (b"", b""), (b"u" * 255, b"\xff" * 255)])
def test_good_login(credentials, step):
    assert events(Socks5(credentials), login(*credentials) + CONNECT, step) == [
        ReplyBytes(b"\x05\x02"),
        ReplyBytes(b"\x01\x00"),
        ConnectRequest(TARGET),
    ]


@pytest.mark.parametrize(
    "given", [(b"user", b"wrong"), (b"wrong", b"secret"), (b"", b""), (b"usersecret", b""), (b"user", b"")]
)
def test_bad_login_ends_the_connection(given):
    codec = Socks5(LOGIN)
    assert events(codec, login(*given) + CONNECT) == [ReplyBytes(b"\x05\x02"), Refusal(b"\x01\x01")]
    assert events(codec, CONNECT) == []


@pytest.mark.parametrize("command", [0, 4, 255])
def test_other_commands(command):
    request = bytes((5, command, 0)) + TARGET.pack()
    assert events(Socks5(), b"\x05\x01\x00" + request, 1) == [
        ReplyBytes(b"\x05\x00"),
        Refusal(b"\x05\x07\x00\x01\0\0\0\0\0\0"),
    ]


@pytest.mark.parametrize(
    "address", [b"\x00\x00", b"\x02\x00", b"\xff\x00", b"\x03\x00\x00\x50", b"\x03\x01\xff\x00\x50"]
)
def test_addresses_that_are_none(address):
    assert events(Socks5(), b"\x05\x01\x00\x05\x01\x00" + address) == [
        ReplyBytes(b"\x05\x00"),
        Refusal(b"\x05\x08\x00\x01\0\0\0\0\0\0"),
    ]


@pytest.mark.parametrize(
    ("credentials", "good", "bad"),
    [
        (None, b"", b"\x04"),
        (None, b"\x05\x01\x00", b"\x04\x01\x00"),
        (LOGIN, b"\x05\x01\x02", b"\x05\x01"),
    ],
)
def test_a_wrong_version_is_an_error_from_its_first_byte(credentials, good, bad):
    codec = Socks5(credentials)
    codec.receive(good + bad[:1])
    for _ in range(bool(good)):
        assert isinstance(codec.next_event(), ReplyBytes)
    for _ in range(2):  # and stays one
        with pytest.raises(ProtocolError, match="version"):
            codec.next_event()


@pytest.mark.parametrize("status", list(Status))
def test_answers(status):
    codec = Socks5()
    assert codec.refused(status, "any text") == bytes((5, status, 0, 1, 0, 0, 0, 0, 0, 0))
    assert codec.accepted(Address("::1", 258)) == b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x01\x02"
