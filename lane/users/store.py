"""The accounts of a server in its state folder: `accounts.db`, an SQLite database.

The server and the commands open it at the same time. A change is one transaction, so a process that is
killed leaves all of it or nothing, and two administrators at once do not mix their changes. Each change of an
account adds a line to the table `events`. A server reads the new lines, and so knows of a change at once
(`lane.users.directory`), whoever made it.

The write-ahead log lets readers go on beside a writer (https://sqlite.org/wal.html). Nothing here knows of an
event loop: a server calls it in a thread.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lane.errors import ConfigError, UsageError
from lane.files import exposed
from lane.users.account import Account
from lane.users.book import Changes, Record, Used

FILE = "accounts.db"
VERSION = 1
"""The version of the tables."""
MOST_EVENTS = 1000
"""Changes that are remembered for servers. One that has missed more reads everything again."""
KEPT_DAYS = 400
"""Days for which usage is kept."""
PATIENCE = 10.0
"""Seconds to wait for another process that writes."""

_TABLES = """
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    key BLOB NOT NULL UNIQUE,
    expires REAL, quota INTEGER, rate INTEGER, sessions INTEGER, devices INTEGER,
    disabled INTEGER NOT NULL, note TEXT NOT NULL, created REAL NOT NULL,
    seen REAL
);
CREATE TABLE usage (
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    day TEXT NOT NULL, up INTEGER NOT NULL, down INTEGER NOT NULL,
    PRIMARY KEY (account, day)
) WITHOUT ROWID;
CREATE TABLE events (number INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, name TEXT NOT NULL);
PRAGMA user_version = 1
"""
_SELECT = "SELECT name, key, expires, quota, rate, sessions, devices, disabled, note, created FROM accounts"
_SELECT_RECORDS = (
    "SELECT name, key, expires, quota, rate, sessions, devices, disabled, note, created,"
    " seen, ifnull(sum(up), 0), ifnull(sum(down), 0)"
    " FROM accounts LEFT JOIN usage ON account = id AND day >= :first"
)
_INSERT = (
    "INSERT INTO accounts (name, key, expires, quota, rate, sessions, devices, disabled, note, created)"
    " VALUES (:name, :key, :expires, :quota, :rate, :sessions, :devices, :disabled, :note, :created)"
)
_UPDATE = (
    "UPDATE accounts SET key = :key, expires = :expires, quota = :quota, rate = :rate, sessions = :sessions,"
    " devices = :devices, disabled = :disabled, note = :note WHERE name = :name"
)
_SPENT = "SELECT sum(up), sum(down) FROM usage JOIN accounts ON id = account WHERE name = ? AND day >= ?"
_COUNT = (
    "INSERT INTO usage SELECT id, ?, ?, ? FROM accounts WHERE name = ?"
    " ON CONFLICT DO UPDATE SET up = up + excluded.up, down = down + excluded.down"
)


class Store:
    """The database at `path`, which must exist: see `create`. `hurried`: for counts, that may be lost with
    the machine's power, though never with the process.

    All methods raise ConfigError if the database fails.
    """

    def __init__(self, path: Path, *, hurried: bool = False) -> None:
        self.path = path
        try:
            if wrong := exposed(path, path.stat(), 0o077):
                raise ConfigError(f"{path}: refused, since {wrong} (chmod 600 {path})")
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        with self._explained():
            self._db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=rw",
                uri=True,
                timeout=PATIENCE,
                isolation_level=None,
                check_same_thread=False,  # one thread at a time
            )
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise ConfigError(f"{path} was made by a newer lane (version {version}, not {VERSION})")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {'NORMAL' if hurried else 'FULL'}")
            self._db.execute("PRAGMA foreign_keys = ON")
            if not version:
                self._make()

    def _make(self) -> None:
        with self._transaction("BEGIN IMMEDIATE"):
            if not self._db.execute("PRAGMA user_version").fetchone()[0]:  # another process may have made it
                for statement in _TABLES.split(";"):
                    self._db.execute(statement)

    @classmethod
    def create(cls, path: Path, accounts: Iterable[Account] = ()) -> "Store":
        """Make the database with `accounts`, all or nothing. Raises ConfigError, OSError."""
        new = path.with_name(f".{path.name}.new")
        for name in (new, Path(f"{new}-wal"), Path(f"{new}-shm")):
            name.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        folder = path.parent.stat()
        if os.geteuid() == 0 and folder.st_uid != 0:  # the server's own user must be able to read it
            os.chown(new, folder.st_uid, folder.st_gid)
        try:
            store = cls(new)
            try:
                with store._changing():
                    for account in accounts:
                        store._insert(account)
            finally:
                store.close()
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
        return cls(path)

    def close(self) -> None:
        """Close it. Idempotent."""
        with self._explained():
            self._db.close()

    # The accounts.

    def get(self, name: str) -> Account | None:
        """The account called `name`, or None."""
        with self._explained():
            return self._get(name)

    def all(self) -> list[Account]:
        """All accounts, the oldest first."""
        with self._explained():
            return [_account(row) for row in self._db.execute(_SELECT + " ORDER BY id")]

    def first(self) -> Account | None:
        """The oldest account. None if there is none."""
        with self._explained():
            row = self._db.execute(_SELECT + " ORDER BY id LIMIT 1").fetchone()
            return _account(row) if row else None

    def add(self, account: Account) -> None:
        """Add an account. Raises UsageError if its name is taken."""
        with self._changing():
            if self._get(account.name):
                raise UsageError(f"there is a user {account.name} already")
            self._insert(account)
            self._tell("changed", account.name)

    def change(self, name: str, **fields: Any) -> Account:
        """Set `fields` of an account, and return it. Raises UsageError if there is no such user."""
        with self._changing():
            account = replace(self._need(name), **fields)
            self._db.execute(_UPDATE, asdict(account))
            self._tell("changed", name)
            return account

    def remove(self, name: str) -> None:
        """Remove an account and its usage. Raises UsageError if there is no such user."""
        with self._changing():
            self._need(name)
            self._db.execute("DELETE FROM accounts WHERE name = ?", (name,))
            self._tell("changed", name)

    def kick(self, name: str) -> None:
        """Have the servers end the user's sessions. Raises UsageError if there is no such user."""
        with self._changing():
            self._need(name)
            self._tell("kicked", name)

    # What servers are told.

    def changes(self, since: int | None) -> Changes | None:
        """What has changed after the event `since`; all accounts if that is None, or too long ago.

        None if nothing has changed.
        """
        with self._explained(), self._transaction("BEGIN"):
            row = self._db.execute("SELECT min(number), max(number) FROM events").fetchone()
            first, last = row if row[0] is not None else (1, 0)
            if since == last:
                return None
            if since is None or since < first - 1 or since > last:
                accounts = self._db.execute(_SELECT + " ORDER BY id")
                return Changes(last, {row[0]: _account(row) for row in accounts}, whole=True)
            events = self._db.execute("SELECT what, name FROM events WHERE number > ?", (since,)).fetchall()
            names = {name for what, name in events if what == "changed"}
            kicked = frozenset(name for what, name in events if what == "kicked")
            return Changes(last, {name: self._get(name) for name in names}, kicked)

    # Usage.

    def count(self, used: Mapping[str, tuple[int, int]], seen: Iterable[str], now: float) -> None:
        """Add bytes (up, down) by user to the present day, and note that users in `seen` are there `now`.

        Users without an account are left out.
        """
        day = _day(now)
        with self._changing():
            self._db.executemany(_COUNT, [(day, up, down, name) for name, (up, down) in used.items()])
            self._db.executemany(
                "UPDATE accounts SET seen = ? WHERE name = ?", [(now, name) for name in seen]
            )

    def spent(self, now: float, names: Iterable[str]) -> dict[str, Used]:
        """What users have used in the month (UTC) of `now`, without those who have used nothing."""
        with self._explained():
            rows = [(name, self._db.execute(_SPENT, (name, _first(now))).fetchone()) for name in names]
        return {name: Used(*row) for name, row in rows if row != (None, None)}

    def records(self, now: float, name: str | None = None) -> list[Record]:
        """All users with what they have used in the month of `now`; or only the one called `name`."""
        where = "" if name is None else " WHERE name = :name"
        with self._explained():
            rows = self._db.execute(
                _SELECT_RECORDS + where + " GROUP BY id ORDER BY id",
                {"first": _first(now), "name": name},
            )
            return [Record(_account(row), row[-3], Used(*row[-2:])) for row in rows]

    def days(self, name: str) -> dict[str, Used]:
        """What a user has used by day (`2026-01-31`, UTC), the oldest first."""
        with self._explained():
            rows = self._db.execute(
                "SELECT day, up, down FROM usage JOIN accounts ON id = account WHERE name = ? ORDER BY day",
                (name,),
            )
            return {day: Used(up, down) for day, up, down in rows}

    def forget(self, now: float) -> None:
        """Drop the usage of more than KEPT_DAYS ago."""
        with self._changing():
            oldest = now - timedelta(days=KEPT_DAYS).total_seconds()
            self._db.execute("DELETE FROM usage WHERE day < ?", (_day(oldest),))

    # Within a transaction.

    def _get(self, name: str) -> Account | None:
        row = self._db.execute(_SELECT + " WHERE name = ?", (name,)).fetchone()
        return _account(row) if row else None

    def _need(self, name: str) -> Account:
        account = self._get(name)
        if account is None:
            raise UsageError(f"there is no user {name}")
        return account

    def _insert(self, account: Account) -> None:
        self._db.execute(_INSERT, asdict(account))

    def _tell(self, what: str, name: str) -> None:
        self._db.execute("INSERT INTO events (what, name) VALUES (?, ?)", (what, name))
        self._db.execute("DELETE FROM events WHERE number <= last_insert_rowid() - ?", (MOST_EVENTS,))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._explained(), self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._db.execute(begin)
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ConfigError(f"{self.path}: {error}") from None


def _account(row: tuple[Any, ...]) -> Account:
    name, key, expires, quota, rate, sessions, devices, disabled, note, created = row[:10]
    return Account(name, key, expires, quota, rate, sessions, devices, bool(disabled), note, created)


def _first(now: float) -> str:
    """The first day of the month."""
    return f"{_day(now)[:8]}01"


def _day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
