"""The keys of users: how the file is read, and whom a token names."""

from pathlib import Path

import pytest

from lane import keys as module
from lane.errors import ConfigError
from lane.keys import BINDINGS, KeyRing, Keys, new_keys
from lane.link import encode
from lane.proto.hello import token

LINE = f"alice {encode(bytes(32))}\n"


def parsed(text):
    return Keys.parse(text.encode(), Path("keys"))


def test_the_operator_may_edit_the_keys():
    keys = parsed(f"# users\n\n{LINE}  bob\t{encode(b'b' * 32)}  # a friend\n")
    assert list(keys.items()) == [("alice", bytes(32)), ("bob", b"b" * 32)]
    assert keys.first == ("alice", bytes(32))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"bob", "line 2: expected NAME KEY"),
        (b"bob a b", "line 2: expected NAME KEY"),
        (b"bob AAAA", "line 2: the key is not 32 bytes"),
        (b"x" * 65 + b" " + b"A" * 43, "line 2: expected NAME KEY"),
        ("b\u200bb ".encode() + b"A" * 43, "line 2: expected NAME KEY"),
        (b"alice " + encode(b"b" * 32).encode(), "line 2: that name or key is there already"),
        (b"bob " + encode(bytes(32)).encode(), "line 2: that name or key is there already"),
    ],
)
def test_a_bad_line_is_named_and_no_key_shown(line, message):
    with pytest.raises(ConfigError, match=f"keys, {message}") as caught:
        Keys.parse(LINE.encode() + line, Path("keys"))
    assert "AAAA" not in str(caught.value)


def test_limits_of_the_key_file(monkeypatch):
    with pytest.raises(ConfigError, match="no key in"):
        parsed("# nobody\n")
    monkeypatch.setattr(module, "MAX_USERS", 1)
    assert parsed(LINE).first[0] == "alice"
    with pytest.raises(ConfigError, match="more than 1 users"):
        parsed(LINE + f"bob {encode(b'b' * 32)}\n")


def test_keys_are_not_shown():
    keys = Keys.parse(new_keys(), Path("keys"))
    user, key = keys.first
    assert (user, len(key)) == ("default", 32)
    assert encode(key) not in repr(keys)
    assert repr(key) not in repr(keys)


def test_a_token_is_known_on_its_own_carrier_only():
    keys = Keys({"alice": b"a" * 32, "bob": b"b" * 32})
    now, before = b"n" * 32, b"o" * 32
    ring = KeyRing(keys)
    for binding in (now, before, *(bytes([n]) * 32 for n in range(BINDINGS + 1)), now):
        assert ring.lookup(token(b"a" * 32, binding), binding) == "alice"
        assert ring.lookup(token(b"b" * 32, binding), binding) == "bob"
    assert ring.lookup(token(b"a" * 32, now), before) is None
    assert ring.lookup(token(b"c" * 32, now), now) is None
    assert ring.lookup(token(b"a" * 32, now), b"x" * 32) is None
