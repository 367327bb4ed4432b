"""Host names in the one form in which they are compared and looked up, and addresses in theirs."""
# ruff: noqa: RUF001  (characters that look like others are what some tests are about)

from ipaddress import ip_address

import pytest

from lane.address import Address, unpack
from lane.errors import Status, TargetError
from lane.net.names import ascii_name, literal, normal_name


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("straße.test", "xn--strae-oqa.test"),  # and not strasse.test, another domain
        ("STRAẞE.test", "xn--strae-oqa.test"),
        ("faß.de", "xn--fa-hia.de"),
        ("βόλος.com", "xn--nxasmm1c.com"),  # the final sigma stays one
        ("ශ්‍රී.com", "xn--10cl1a0b660p.com"),  # and a joiner that joins
        ("نامه‌ای.com", "xn--mgba3gch31f060k.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example.", "xn--bcher-kva.example."),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),  # decomposed
        ("münchen。de", "xn--mnchen-3ya.de"),  # all dots are dots
        ("ｅｘａｍｐｌｅ．ｃｏｍ", "example.com"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("💩.la", "xn--ls8h.la"),  # not in IDNA 2008, and in use
        ("☃.net", "xn--n3h.net"),
        ("_dmarc.straße.test", "_dmarc.xn--strae-oqa.test"),
        ("_straße.test", "xn--_strae-fta.test"),
        ("ab--ß.test", "xn--ab---yna.test"),
    ],
)
def test_names_are_encoded_as_browsers_do(host, name):
    assert ascii_name(host) == name
    assert normal_name(host) == name.removesuffix(".")
    assert ascii_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["example.com", "_dmarc.example.com", "_sip._tcp.example.com", "xn--strae-oqa.test", "xn--a", "a-.test",
     "-a.test", "ab--cd.test", "1.2.3.4.in-addr.arpa", "*.example.com", "a" * 63 + ".test", "localhost",
     ".".join(["a" * 49] * 5)],
)  # fmt: skip
def test_ascii_names_stay_as_they_are(name):
    assert ascii_name(name.upper()) == name
    assert ascii_name(f"{name}.") == f"{name}."  # looked up as it was given
    assert normal_name(f"{name}.") == name  # compared without


@pytest.mark.parametrize(
    "host",
    ["", ".", "..", "a..b", ".a", "a.。", "x" * 64, "ü" * 63, ".".join(["a" * 50] * 5), "a\0b", "a b",
     "a\tb", "a/b", "a%b", "[::1]", "a:80", "user@host", "a\x7f", "\u00ad", "\u00ad.test", "a\u2024\u2024b",
     "\u0301a.test", "\ufffd.test", "a\u200db.test", "א1a.test", "\u2488com"],
)  # fmt: skip
def test_what_can_not_be_a_name_is_refused_with_the_reason(host):
    with pytest.raises(TargetError, match=r"^not a host name: .") as caught:
        ascii_name(host)
    assert caught.value.status is Status.HOST_UNREACHABLE


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::FFFF:7f00:1", "127.0.0.1"),
        ("0:0:0:0:0:ffff:10.0.0.1", "10.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0177.0.0.1.", "127.0.0.1"),
        ("１２７。０。０。１", "127.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::ffff:127.0.0.1%lo", "::ffff:127.0.0.1%lo"),  # the policy refuses what has a scope
        ("::ffff:0:127.0.0.1", "::ffff:0:7f00:1"),  # another thing
    ],
)
def test_an_address_in_whatever_form(host, address):
    assert literal(host) == ip_address(address)


@pytest.mark.parametrize("host", ["localhost", "1.2.3.4.5", "1.2.3.4.test", "0x7g", "a..b", "", "256.1.1.1"])
def test_what_is_no_address(host):
    assert literal(host) is None


@pytest.mark.parametrize("text", ["::ffff:127.0.0.1", "0::FFFF:7f00:1"])
def test_a_mapped_address_is_the_ipv4_address_in_every_protocol(text):
    plain = Address("127.0.0.1", 80)
    assert Address.parse(f"[{text}]:80") == plain
    assert unpack(b"\4" + ip_address(text).packed + b"\0P") == (plain, 19)
    assert unpack(b"\3" + bytes([len(text)]) + text.encode() + b"\0P") == (plain, 4 + len(text))
