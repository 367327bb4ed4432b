"""Users as tables for people: `lane user list` and `lane user show`."""

from collections.abc import Mapping, Sequence
from time import time
from unicodedata import combining, east_asian_width

from lane.users.account import Account
from lane.users.book import Record, Used
from lane.users.limits import rate_text, size_text, time_text

There = tuple[int, int] | None
"""Sessions and devices now; None if no server runs."""
_HEADS = ("name", "online", "last seen", "up", "down", "quota", "rate", "sessions", "devices", "expires", "")
_LAST_DAYS = 31


def users_table(rows: Sequence[tuple[Record, There]]) -> str:
    """All users, one a line. `up` and `down` are of this month."""
    return _table([_HEADS, *(_row(record, there) for record, there in rows)])


def details(record: Record, there: There) -> str:
    """One user, one fact a line."""
    account = record.account
    facts = {
        "name": account.name,
        "state": _state(account) or "active",
        "online": "no server runs here" if there is None else _online(there),
        "last seen": time_text(record.seen),
        "this month": f"{size_text(record.used.up)} up, {size_text(record.used.down)} down",
        "quota": "-" if account.quota is None else f"{size_text(account.quota)}/month",
        "rate": "-" if account.rate is None else rate_text(account.rate),
        "sessions": _number(account.sessions),
        "devices": _number(account.devices),
        "expires": time_text(account.expires),
        "created": time_text(account.created),
        "note": account.note or "-",
    }
    width = max(map(len, facts)) + 2
    return "\n".join(f"{name:{width}}{text}" for name, text in facts.items())


def days_table(days: Mapping[str, Used]) -> str:
    """What a user has used on the last days."""
    last = list(days.items())[-_LAST_DAYS:]
    rows = [(day, size_text(used.up), size_text(used.down)) for day, used in last]
    return _table([("day (UTC)", "up", "down"), *rows])


def _row(record: Record, there: There) -> Sequence[str]:
    account = record.account
    return (
        account.name,
        "-" if there is None or not there[1] else _some(there[1], "device"),
        time_text(record.seen),
        size_text(record.used.up),
        size_text(record.used.down),
        "-" if account.quota is None else size_text(account.quota),
        "-" if account.rate is None else rate_text(account.rate),
        _number(account.sessions),
        _number(account.devices),
        time_text(account.expires),
        f"{_state(account)} {account.note}".strip(),
    )


def _state(account: Account) -> str:
    if account.disabled:
        return "disabled"
    return "" if account.expires is None or time() < account.expires else "expired"


def _online(there: tuple[int, int]) -> str:
    return f"{_some(there[1], 'device')}, {_some(there[0], 'session')}" if any(there) else "no"


def _some(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _number(limit: int | None) -> str:
    return "-" if limit is None else str(limit)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _width(text: str) -> int:
    """The columns that a text takes in a terminal (UAX #11)."""
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)
