"""Accounts in memory follow the place where they are kept."""

import pytest

from lane.errors import ConfigError
from lane.proto.hello import token
from lane.testing.harness import until
from lane.users.account import Account
from lane.users.book import Changes, Used
from lane.users.directory import BookDirectory, Directory
from lane.users.store import Store

ANNA, BOB = Account("anna", b"a" * 32), Account("bob", b"b" * 32)
BINDING = b"n" * 32


@pytest.fixture
def store(tmp_path):
    with_two = Store.create(tmp_path / "accounts.db", [ANNA, BOB])
    yield with_two
    with_two.close()


@pytest.fixture
def directory(store):
    directory = BookDirectory(Store(store.path, hurried=True))
    yield directory
    directory.close()


def test_changes_are_told_once(store, directory):
    told = []
    directory.start(told.append, lambda _: False)
    assert directory.find(token(BOB.key, BINDING), BINDING, "") == BOB
    store.remove("bob")
    store.change("anna", quota=5)
    store.kick("anna")
    until(lambda: directory.get("anna").quota == 5 and not directory.get("bob"))
    assert directory.find(token(BOB.key, BINDING), BINDING, "") is None
    assert {name for changes in told for name in changes.accounts} == {"anna", "bob"}
    assert [changes.kicked for changes in told][-1] == {"anna"}
    told.clear()
    directory.refresh()
    assert told == []


def test_what_fails_leaves_the_accounts_as_they_are(caplog):
    answers = iter([Changes(1, {"anna": ANNA}, whole=True), ConfigError("gone"), ConfigError("gone")])
    caplog.set_level("INFO")

    def changes(since):
        answer = next(answers, None)
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    directory = Directory(changes, period=0.001)
    directory.start(lambda _: None, lambda _: False)
    until(lambda: "accounts can be read again" in caplog.text)
    assert caplog.text.count("accounts stay as they are: gone") == 1
    assert directory.get("anna") is ANNA
    directory.close()


def test_who_is_not_in_a_whole_answer_was_removed():
    accounts = {"anna": ANNA, "bob": BOB}
    told = []
    directory = Directory(lambda since: Changes(0, dict(accounts), whole=True), thread=False)
    directory.start(told.append, lambda _: False)
    del accounts["bob"]
    directory.refresh()
    assert told == [Changes(0, {"bob": None})]
    assert [account.name for account in directory._tokens] == ["anna"]
    directory.close()


def test_the_first_look_must_work():
    def changes(since):
        raise ConfigError("no such server")

    with pytest.raises(ConfigError, match="no such server"):
        Directory(changes)


def test_counts_go_to_the_book(store, directory):
    directory.count({"anna": (3, 4), "nobody": (1, 1)}, ["anna"], 86400.0)
    assert store.days("anna") == {"1970-01-02": Used(3, 4)}
    assert directory.spent(["anna", "bob"], 86400.0) == {"anna": 7}
    directory.count({"anna": (1, 1)}, [], 500 * 86400.0)  # what is old is dropped once a day
    assert [*store.days("anna")] == ["1971-05-16"]
