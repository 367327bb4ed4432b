"""lane:// links: what they look like, and one line for what is none."""

import pytest

from lane.address import Address
from lane.errors import UsageError
from lane.link import Link, decode, encode

KEY, PIN = bytes(range(32)), bytes(range(100, 132))
K, P = encode(KEY), encode(PIN)


def test_the_form():
    assert str(Link(KEY, Address("example.com", 443), PIN)) == (
        "lane://AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8@example.com:443"
        "?pin=ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1-f4CBgoM"
    )
    assert f"@[2001:db8::1]:8443?pin={P}" in str(Link(KEY, Address("2001:db8::1", 8443), PIN))


@pytest.mark.parametrize("host", ["example.com", "192.0.2.1", "[2001:db8::1]", "bücher.example"])
def test_what_is_read(host):
    link = Link.parse(f" \tlane://{K}@{host}:443?pin={P}\n")
    assert link == Link(KEY, Address(host.strip("[]"), 443), PIN)
    assert Link.parse(str(link)) == link


@pytest.mark.parametrize("value", ["", "8443", "/a b/ü?&=#%", "[::1]:443,x"])
def test_options_of_plugins(value):
    link = Link(KEY, Address("h", 1), PIN, (("ws-port", "8443"), ("my_ws-path", value)))
    assert Link.parse(str(link)) == link
    assert Link.parse(f"'{link}'\n") == link
    assert str(link).isascii()
    assert " " not in str(link)


@pytest.mark.parametrize(
    "how",
    [
        "'{}'", '"{}"', "<{}>", "\ufeff{}\r\n", "\u201c{}\u201d", "`{}`", "\u200b{}", "\u00a0{} ",
    ],
)  # fmt: skip
@pytest.mark.parametrize("width", [1, 20, 64, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n    ", "\u200b"])
def test_a_link_that_was_wrapped_or_quoted(how, width, end):
    text = f"lane://{K}@example.com:443?pin={P}"
    wrapped = end.join(text[at : at + width] for at in range(0, len(text), width))
    assert Link.parse(how.format(wrapped)) == Link.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected lane://"),
        (f"http://{K}@h:1?pin={P}", "expected lane://"),
        (f"lane://{K}@{'h' * 1000}:1?pin={P}", "expected lane://"),
        (f"lane://h:1?pin={P}", "no key"),
        (f"lane://{K[:-1]}@h:1?pin={P}", "the key is not 32 bytes"),
        (f"lane://{K}A@h:1?pin={P}", "the key is not 32 bytes"),
        (f"lane://{K}=@h:1?pin={P}", "the key is not 32 bytes"),
        (f"lane://{K[:-1]}9@h:1?pin={P}", "the key is not 32 bytes"),
        (f"lane://{K[:-1]}é@h:1?pin={P}", "the key is not 32 bytes"),
        (f"lane://@h:1?pin={P}", "the key is not 32 bytes"),
        (f"lane://{K}@h?pin={P}", "expected HOST:PORT"),
        (f"lane://{K}@h:1/?pin={P}", "expected HOST:PORT"),
        (f"lane://{K}@::1:1?pin={P}", "expected HOST:PORT"),
        (f"lane://{K}@:1?pin={P}", "no host name"),
        (f"lane://{K}@{K}@h:1?pin={P}", "no host name"),
        (f"lane://{K}@h:0?pin={P}", "1 to 65535"),
        (f"lane://{K}@h:65536?pin={P}", "expected HOST:PORT"),
        (f"lane://{K}@h:1", "no pin"),
        (f"lane://{K}@h:1?", "no pin"),
        (f"lane://{K}@h:1?pin=", "the pin is not 32 bytes"),
        (f"lane://{K}@h:1?pin={P}=", "the pin is not 32 bytes"),
        (f"lane://{K}@h:1?pin={P[:-4]}", "the pin is not 32 bytes"),
        (f"lane://{K}@h:1?pin={P}&pin={P}", "twice"),
        (f"lane://{K}@h:1?pin={P}&mode=fast", "unknown parameter mode"),
        (f"lane://{K}@h:1?pin={P}&", "unknown parameter"),
        (f"lane://{K}@h:1?pin={P}&ws-port=1&ws-port=2", "ws-port is there twice"),
        (f"lane://{K}@h:1?pin={P}&ws-path=%00", "can't be printed"),
        (f"lane://{K}@h:1?pin={P}&ws-path=%ff", "can't be printed"),
        (f"lane://{K}@h:1?pin={P}&-port=1", "unknown parameter"),
        (f"lane://{K}@h:1?pin={P}&{'a' * 20}-{'b' * 20}=1", "unknown parameter"),
        (f"lane://{K}@h:1?pin={P}&ws-path={'x' * 1000}", "expected lane://"),
        (f"lane://{K}@h:1?{K}", "unknown parameter"),
    ],
)
def test_malformed_links_are_one_line_without_the_key(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        Link.parse(text)
    assert "\n" not in str(caught.value)
    assert K[:-1] not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [(KEY[1:], Address("h", 1), PIN), (KEY, Address("h", 1), PIN + b"x"), (KEY, Address("", 1), PIN),
     (KEY, Address("a?b", 1), PIN), (KEY, Address("h", 0), PIN), (KEY, Address("h", 1), PIN, (("pin", "x"),)),
     (KEY, Address("h", 1), PIN, (("ws-path", "\n"),))],
)  # fmt: skip
def test_a_link_that_could_not_be_read_can_not_be_made(fields):
    with pytest.raises(UsageError):
        Link(*fields)


def test_the_key_is_not_shown():
    link = Link(KEY, Address("h", 1), PIN)
    assert "key" not in repr(link)
    assert repr(KEY) not in repr(link)


def test_one_text_for_one_key():
    assert decode(encode(KEY)) == KEY
    with pytest.raises(ValueError, match="base64url"):
        decode(encode(bytes([255] * 32)).replace("_", "/"))
