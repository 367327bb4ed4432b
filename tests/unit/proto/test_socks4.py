"""The SOCKS4 codec: requests of SOCKS4 and SOCKS4a, byte by byte."""

import pytest

from lane.address import Address
from lane.errors import ProtocolError, Status
from lane.proto.events import BindRequest, ConnectRequest, Refusal
from lane.proto.socks4 import MAX_TEXT, Socks4

TARGET = Address("198.51.100.7", 258)
FAILED = Refusal(b"\x00\x5b" + bytes(6))


def asking(command=1, port=b"\x01\x02", host=b"\xc6\x33\x64\x07", user=b"me\0", name=b""):
    return bytes((4, command)) + port + host + user + name


def named(name, user=b"\0", last=1):
    return asking(host=bytes((0, 0, 0, last)), user=user, name=name)


def events(codec, data, step=None):
    """All events of `data`, fed in pieces of `step` bytes."""
    found = []
    for start in range(0, len(data), step or len(data)):
        codec.receive(data[start : start + (step or len(data))])
        while (event := codec.next_event()) is not None:
            found.append(event)
    return found


@pytest.mark.parametrize("step", [None, 1, 2, 3])
@pytest.mark.parametrize(("command", "event"), [(1, ConnectRequest), (2, BindRequest)])
@pytest.mark.parametrize("user", [b"\0", b"me\0", b"u" * MAX_TEXT + b"\0"])
def test_what_is_asked_for(user, command, event, step):
    assert events(Socks4(), asking(command, user=user), step) == [event(TARGET)]


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(
    ("name", "host"),
    [
        (b"example.com", "example.com"),
        (b"n" * MAX_TEXT, "n" * MAX_TEXT),
        ("b\u00fccher.example".encode(), "b\u00fccher.example"),
        (b"2001:DB8::0:1", "2001:db8::1"),
    ],
)
@pytest.mark.parametrize("last", [1, 255])
def test_names(name, host, last, step):
    assert events(Socks4(), named(name + b"\0", last=last), step) == [ConnectRequest(Address(host, 258))]


def test_the_unspecified_address_has_no_name():
    codec = Socks4()
    codec.receive(asking(host=bytes(4), name=b"more\0"))
    assert codec.next_event() == ConnectRequest(Address("0.0.0.0", 258))
    assert codec.trailing_data == b"more\0"


@pytest.mark.parametrize("data", [asking(), named(b"example.com\0")])
def test_no_event_before_the_last_byte(data):
    codec = Socks4()
    assert events(codec, data[:-1], 1) == []
    assert len(events(codec, data[-1:])) == 1


def test_bytes_behind_the_request_are_kept():
    codec = Socks4()
    assert events(codec, asking() + b"early") == [ConnectRequest(TARGET)]
    codec.receive(b" birds")
    assert codec.next_event() is None
    assert codec.trailing_data == b"early birds"


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(
    "data",
    [
        asking(user=b"u" * (MAX_TEXT + 1)),
        asking(user=b"u" * (MAX_TEXT + 1) + b"\0"),
        named(b"n" * (MAX_TEXT + 1)),
        named(b"n" * (MAX_TEXT + 1) + b"\0"),
        named(b"\0"),
        named(b"two words\0"),
        named(b"\xff\0"),
    ],
)
def test_texts_that_are_none(data, step):
    codec = Socks4()
    assert events(codec, data, step) == [FAILED]
    assert events(codec, asking()) == []


@pytest.mark.parametrize("command", [0, 3, 255])
def test_other_commands(command):
    assert events(Socks4(), asking(command), 1) == [FAILED]


@pytest.mark.parametrize("login", [(b"user", b"secret"), (b"", b"")])
@pytest.mark.parametrize("user", [b"\0", b"user\0", b"user:secret\0"])
def test_nobody_gets_in_where_credentials_are_asked_for(login, user):
    for data in (asking(user=user), named(b"example.com\0", user)):
        assert events(Socks4(login), data, 1) == [Refusal(b"\x00\x5d" + bytes(6))]


def test_a_wrong_version_is_an_error_from_its_first_byte():
    codec = Socks4()
    codec.receive(b"\x05")
    for _ in range(2):  # and stays one
        with pytest.raises(ProtocolError, match="version"):
            codec.next_event()


@pytest.mark.parametrize("status", list(Status))
def test_refusals(status):
    assert Socks4().refused(status, "any text") == b"\x00\x5b" + bytes(6)


@pytest.mark.parametrize(
    ("bound", "address"),
    [(TARGET, b"\xc6\x33\x64\x07"), (Address("::1", 258), bytes(4)), (Address("a.b", 258), bytes(4))],
)
def test_answers(bound, address):
    assert Socks4().accepted(bound) == b"\x00\x5a\x01\x02" + address
