"""The file `keys` of earlier versions."""

from pathlib import Path

import pytest

from lane.errors import ConfigError
from lane.link import encode
from lane.users import keys_file as module
from lane.users.keys_file import new_user, parse_keys

LINE = f"alice {encode(bytes(32))}\n"


def parsed(text):
    return parse_keys(text.encode(), Path("keys"))


def test_the_operator_may_edit_the_keys():
    keys = parsed(f"# users\n\n{LINE}  bob\t{encode(b'b' * 32)}  # a friend\n")
    assert [(one.name, one.key) for one in keys] == [("alice", bytes(32)), ("bob", b"b" * 32)]


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
        parse_keys(LINE.encode() + line, Path("keys"))
    assert "AAAA" not in str(caught.value)


def test_limits_of_the_key_file(monkeypatch):
    with pytest.raises(ConfigError, match="no key in"):
        parsed("# nobody\n")
    monkeypatch.setattr(module, "MAX_USERS", 1)
    assert [account.name for account in parsed(LINE)] == ["alice"]
    with pytest.raises(ConfigError, match="more than 1 users"):
        parsed(LINE + f"bob {encode(b'b' * 32)}\n")


def test_a_new_server_has_one_user_with_a_key_of_its_own():
    one, other = new_user(), new_user()
    assert one.name == other.name == "default"
    assert one.key != other.key
