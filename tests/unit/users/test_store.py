"""accounts.db: nothing is lost, whoever is killed, and whoever writes at the same time."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from lane.errors import ConfigError, UsageError
from lane.users import store as module
from lane.users.account import Account
from lane.users.book import Changes, Used
from lane.users.store import Store

KEY = bytes(32)
ANNA = Account("anna", b"a" * 32, expires=5.5, quota=7, rate=3, sessions=2, devices=1, note="n", created=1.0)
JANUARY = datetime(2026, 1, 31, 23, 59, tzinfo=UTC).timestamp()
FEBRUARY = JANUARY + 60


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "accounts.db")
    yield store
    store.close()


@pytest.mark.parametrize("name", ["anna", "Zoë", "-x", "a b", "'; DROP TABLE accounts; --", "🎉"])
def test_an_account_is_kept_as_it_is(store, name):
    account = Account(name, ANNA.key, note="; 'x'")
    store.add(account)
    assert store.get(name) == account
    assert Store(store.path).all() == [account]


def test_all_that_an_account_has_is_kept(store):
    store.add(ANNA)
    assert store.get("anna") == ANNA
    assert store.change("anna", expires=None, quota=8, disabled=True) == store.get("anna")
    changed = store.get("anna")
    assert (changed.expires, changed.quota, changed.disabled, changed.key) == (None, 8, True, ANNA.key)
    store.remove("anna")
    assert store.get("anna") is None
    assert store.all() == []


def test_what_is_not_there_is_an_error_of_the_user(store):
    store.add(ANNA)
    with pytest.raises(UsageError, match="there is a user anna already"):
        store.add(Account("anna", KEY))
    for call in (store.remove, store.change, store.kick):
        with pytest.raises(UsageError, match="there is no user bob"):
            call("bob")
    with pytest.raises(UsageError, match="note"):
        store.change("anna", note="two\nlines")
    assert store.all() == [ANNA]


def test_only_its_owner_can_read_it(store):
    store.add(ANNA)
    files = [path for path in store.path.parent.iterdir() if path.name.startswith("accounts.db")]
    assert len(files) > 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    store.path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read it"):
        Store(store.path)


def test_what_is_no_database_is_one_clear_error(tmp_path):
    path = tmp_path / "accounts.db"
    with pytest.raises(ConfigError, match=r"cannot read .*accounts\.db: No such file"):
        Store(path)
    path.write_bytes(b"garbage" * 1000)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"accounts\.db: file is not a database"):
        Store(path)
    path.unlink()
    store = Store.create(path)
    store._db.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="made by a newer lane"):
        Store(path)


def test_a_server_is_told_what_has_changed(store):
    first = store.changes(None)
    assert first == Changes(0, {}, whole=True)
    assert store.changes(0) is None
    store.add(ANNA)
    store.add(Account("bob", KEY))
    store.remove("bob")
    store.kick("anna")
    told = Store(store.path).changes(first.number)
    assert told == Changes(4, {"anna": ANNA, "bob": None}, frozenset({"anna"}))
    assert store.changes(told.number) is None
    assert store.changes(3) == Changes(4, {}, frozenset({"anna"}))


def test_who_has_missed_too_many_changes_reads_all(store, monkeypatch):
    monkeypatch.setattr(module, "MOST_EVENTS", 3)
    store.add(ANNA)
    for quota in range(9):
        store.change("anna", quota=quota)
    assert store.changes(7) == Changes(10, {"anna": store.get("anna")})
    assert store.changes(6) == Changes(10, {"anna": store.get("anna")}, whole=True)
    assert store.changes(11).whole  # of another database
    assert store._db.execute("SELECT count(*) FROM events").fetchone() == (3,)


def test_usage_is_kept_by_user_and_day(store):
    store.add(ANNA)
    store.count({"anna": (1, 10), "nobody": (5, 5)}, ["anna"], JANUARY)
    store.count({"anna": (2, 20)}, ["anna"], JANUARY)
    store.count({"anna": (4, 40)}, [], FEBRUARY)
    assert store.days("anna") == {"2026-01-31": Used(3, 30), "2026-02-01": Used(4, 40)}
    assert store.spent(JANUARY, ["anna", "bob"]) == {"anna": Used(7, 70)}
    assert store.spent(FEBRUARY, ["anna"]) == {"anna": Used(4, 40)}
    (record,) = store.records(FEBRUARY)
    assert record == (ANNA, JANUARY, Used(4, 40))
    assert store.changes(1) is None  # counts are no changes of accounts


def test_a_new_user_does_not_inherit_usage(store):
    store.add(ANNA)
    store.count({"anna": (1, 1)}, ["anna"], JANUARY)
    store.remove("anna")
    store.add(ANNA)
    assert store.records(JANUARY, "anna") == [(ANNA, None, Used(0, 0))]


def test_old_usage_is_dropped(store):
    store.add(ANNA)
    store.count({"anna": (1, 1)}, [], JANUARY)
    store.forget(JANUARY + 400 * 86400)
    assert store.days("anna")
    store.forget(JANUARY + 402 * 86400)
    assert store.days("anna") == {}


def test_a_full_disk_is_one_clear_error_and_loses_nothing(store):
    store.add(ANNA)
    store._db.execute(f"PRAGMA max_page_count = {store._db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(ConfigError, match="full"):
        for number in range(1000):
            store.add(Account(f"user {number}", number.to_bytes(32), note="x" * 400))
    assert store.get("anna") == ANNA
    store._db.execute("PRAGMA max_page_count = 100000")
    store.add(Account("bob", b"b" * 32))


PROGRAM = """
import sys
from pathlib import Path
from lane.users.account import Account
from lane.users.store import Store
store = Store(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 5000):
    store.add(Account(f"user {number}", number.to_bytes(32)))
    print(number, flush=True)
    if len(sys.argv) > 3 and number % 100 == 99:
        break
"""


def test_two_administrators_at_once(store):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, store.path, str(first), "few"], stdout=subprocess.DEVNULL
        )
        for first in (0, 100)
    ]
    assert [child.wait(100) for child in children] == [0, 0]
    assert len(store.all()) == 200
    assert len(store.changes(0).accounts) == 200


def test_kill_9_loses_no_account(store):
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, store.path, "0"], stdout=subprocess.PIPE)
    said = [child.stdout.readline() for _ in range(20)]
    os.kill(child.pid, signal.SIGKILL)
    said += child.communicate()[0].splitlines()
    names = {account.name for account in Store(store.path).all()}
    assert {f"user {int(line)}" for line in said} <= names


def test_a_creation_that_was_cut_short_leaves_nothing(tmp_path):
    path = tmp_path / "accounts.db"
    with pytest.raises(ConfigError):
        Store.create(path, [ANNA, ANNA])
    assert not path.exists()
    Store.create(path, [ANNA]).close()
    assert Store(path).all() == [ANNA]
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert min(os.listdir(tmp_path)).startswith("accounts.db")
