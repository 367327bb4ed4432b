"""Addresses: as people write them, and packed."""

import pytest

from lane.address import MAX_PACKED, Address, unpack
from lane.errors import ProtocolError, UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("example.com:65535", "example.com", 65535),
        ("[::1]:0", "::1", 0),
        ("[2001:DB8:0::1]:443", "2001:db8::1", 443),
        (":4433", "", 4433),
        ("  localhost:1080\n", "localhost", 1080),
        ("bücher.example:1", "bücher.example", 1),
    ],
)
def test_parse(text, host, port):
    assert Address.parse(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("example.com", "example.com", 7), ("[::1]", "::1", 7), ("10.0.0.1:8", "10.0.0.1", 8), ("", "", 7)],
)
def test_parse_with_a_default_port(text, host, port):
    assert Address.parse(text, default_port=7) == (host, port)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("example.com", "expected HOST:PORT"),
        ("[::1]", "expected HOST:PORT"),
        ("::1:80", "needs brackets"),
        ("::1", "needs brackets"),
        ("[::1", r"expected \[IPV6\]:PORT"),
        ("[::1]80", r"expected \[IPV6\]:PORT"),
        ("host:", "port must be"),
        ("host:65536", "port must be"),
        ("host:-1", "port must be"),
        ("host:٣", "port must be"),
        ("host:000080", "port must be"),
        ("two words:80", "no host name"),
        ("bell\a:80", "no host name"),
        ("ü" * 128 + ":80", "no host name"),
    ],
)
def test_what_is_no_address(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        Address.parse(text)
    assert "\n" not in str(caught.value)


def test_an_ipv6_address_is_shown_in_brackets():
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(Address("example.com", 80)) == "example.com:80"


@pytest.mark.parametrize(
    ("address", "data"),
    [
        (Address("192.0.2.1", 80), "01c00002010050"),
        (Address("2001:db8::1", 443), "0420010db800000000000000000000000101bb"),
        (Address("a.b", 1), "0303612e620001"),
    ],
)
def test_pack_and_unpack(address, data):
    packed = bytes.fromhex(data)
    assert address.pack() == packed
    assert unpack(packed) == (address, len(packed))
    assert unpack(b"before" + packed + b"behind", 6) == (address, 6 + len(packed))
    assert all(unpack(packed[:size]) is None for size in range(len(packed)))


def test_the_longest_name():
    address = Address("n" * 255, 65535)
    assert len(address.pack()) == MAX_PACKED
    assert unpack(address.pack()) == (address, MAX_PACKED)


def test_an_address_with_a_scope_fits_wherever_it_fitted_before():
    name = b"1::3:4:5:6:7:8%" + b"a" * 240  # without the scope it is 1:0:3:4:5:6:7:8, a byte more
    address, _ = unpack(bytes((3, len(name))) + name + b"\0\x09")
    assert unpack(address.pack()) == (address, MAX_PACKED)


def test_an_address_that_is_sent_as_a_name_is_an_address():
    assert unpack(b"\x03\x09127.0.0.1\x00\x50") == (Address("127.0.0.1", 80), 13)
    assert unpack(b"\x03\x07::0:0:1\x00\x50") == (Address("::1", 80), 11)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x00", "address type 0"),
        (b"\x02\x00", "address type 2"),
        (b"\x03\x00\x00\x50", "empty"),
        (b"\x03\x02a \x00\x50", "printable"),
        (b"\x03\x02a\x00\x00\x50", "printable"),
        (b"\x03\x02\xc3\x28\x00\x50", "UTF-8"),
    ],
)
def test_what_no_peer_may_send(data, message):
    with pytest.raises(ProtocolError, match=message):
        unpack(data)
