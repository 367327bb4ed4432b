import json

import pytest

from lane.errors import UsageError
from lane.users.account import MAX_NAME, MAX_NOTE, Account
from lane.users.ending import Ending

KEY = bytes(range(32))


@pytest.mark.parametrize("name", ["anna", "Zoë", "a b", "-x", "李/雷", "🎉", "a'b\"c;--", "x" * MAX_NAME])
def test_a_name_has_any_printable_characters(name):
    assert Account(name, KEY).name == name


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0", "\x1b[0m", "\udcff", "\u202e", "x" * 65])
def test_a_name_that_cannot_be_shown_is_refused(name):
    with pytest.raises(UsageError):
        Account(name, KEY)


def test_a_key_and_a_note_have_their_sizes():
    with pytest.raises(UsageError):
        Account("anna", KEY[:-1])
    with pytest.raises(UsageError):
        Account("anna", KEY, note="x" * (MAX_NOTE + 1))
    with pytest.raises(UsageError):
        Account("anna", KEY, note="two\nlines")


def test_an_account_ends_to_the_second():
    account = Account("anna", KEY, expires=1000.0)
    assert account.refusal(999.9) is None
    assert account.refusal(1000.0) is Ending.EXPIRED


def test_a_disabled_account_is_refused_at_any_time():
    assert Account("anna", KEY, disabled=True).refusal(0.0) is Ending.DISABLED
    assert Account("anna", KEY).refusal(1e12) is None


def test_nothing_that_is_shown_has_the_key():
    account = Account("anna", b"k" * 32, note="of Anna", created=5.0)
    assert "kkk" not in repr(account)
    assert json.loads(json.dumps(account.public())) == {
        "name": "anna", "expires": None, "quota": None, "rate": None, "sessions": None, "devices": None,
        "disabled": False, "note": "of Anna", "created": 5.0,
    }  # fmt: skip
