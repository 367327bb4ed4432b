"""Whom a token names."""

import pytest

from lane.proto.hello import token
from lane.users.account import Account
from lane.users.tokens import BINDINGS, Tokens

ANNA, BOB = Account("anna", b"a" * 32), Account("bob", b"b" * 32)
NOW, BEFORE = b"n" * 32, b"o" * 32


def test_a_token_is_known_on_its_own_carrier_only():
    tokens = Tokens([ANNA, BOB])
    for binding in (NOW, BEFORE, *(bytes([n]) * 32 for n in range(BINDINGS + 1)), NOW):
        assert tokens.find(token(ANNA.key, binding), binding) is ANNA
        assert tokens.find(token(BOB.key, binding), binding) is BOB
    assert tokens.find(token(ANNA.key, NOW), BEFORE) is None
    assert tokens.find(token(b"c" * 32, NOW), NOW) is None
    assert len(tokens._tokens) == BINDINGS


@pytest.mark.parametrize("prepared", [False, True])
def test_changes_count_at_once(prepared):
    tokens = Tokens([ANNA])
    if prepared:
        tokens.prepare(NOW)
    assert tokens.find(token(ANNA.key, NOW), NOW) is ANNA
    tokens.put(BOB)
    disabled = Account("anna", ANNA.key, disabled=True)
    tokens.put(disabled)
    assert tokens.find(token(ANNA.key, NOW), NOW) is tokens.get("anna") is disabled
    rotated = Account("anna", b"c" * 32)
    tokens.put(rotated)
    assert tokens.find(token(ANNA.key, NOW), NOW) is None
    assert tokens.find(token(rotated.key, NOW), NOW) is rotated
    tokens.remove("anna")
    tokens.remove("anna")
    assert tokens.find(token(rotated.key, NOW), NOW) is None
    assert [*tokens] == [BOB]


def test_two_users_may_swap_their_keys():
    tokens = Tokens([ANNA, BOB])
    assert tokens.find(token(ANNA.key, NOW), NOW) is ANNA
    tokens.put(Account("bob", b"c" * 32))
    tokens.put(Account("anna", BOB.key))
    tokens.put(Account("bob", ANNA.key))
    assert tokens.find(token(ANNA.key, NOW), NOW).name == "bob"
    assert tokens.find(token(BOB.key, NOW), NOW).name == "anna"


def test_changes_while_tokens_are_prepared(monkeypatch):
    tokens = Tokens([ANNA, BOB])
    others = iter([("bob", None), ("anna", Account("anna", b"d" * 32))])

    def change():
        name, account = next(others)
        tokens.put(account) if account else tokens.remove(name)

    monkeypatch.setattr("lane.users.tokens.maybe_yield", change)
    tokens.prepare(NOW)
    assert tokens.find(token(b"d" * 32, NOW), NOW).name == "anna"
    assert tokens.find(token(ANNA.key, NOW), NOW) is None
    assert tokens.find(token(BOB.key, NOW), NOW) is None
