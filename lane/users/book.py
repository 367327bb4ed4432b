"""What a place where accounts are kept must do: the state folder (`lane.users.store`), or a Redis.

The commands change accounts there. A running server asks for what has changed, and adds what users have used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from lane.users.account import Account


class Used(NamedTuple):
    """Bytes of a user, from the client to targets and back."""

    up: int = 0
    down: int = 0


class Record(NamedTuple):
    """A user as the commands show it."""

    account: Account
    seen: float | None
    """When the user was last there, seconds since the epoch."""
    used: Used
    """In the present month."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since a server asked last."""

    number: int
    """What to ask with the next time."""
    accounts: Mapping[str, Account | None]
    """The accounts that have changed, by name; None for one that was removed."""
    kicked: frozenset[str] = frozenset()
    """Users whose sessions must end now."""
    whole: bool = False
    """These are all accounts: whoever is not there was removed."""


class Book(Protocol):
    """A place where accounts are kept. Each method raises ConfigError if the place fails."""

    def get(self, name: str) -> Account | None:
        """The account called `name`, or None."""

    def all(self) -> list[Account]:
        """All accounts, the oldest first."""

    def first(self) -> Account | None:
        """The oldest account."""

    def add(self, account: Account) -> None:
        """Add an account. Raises UsageError if its name is taken."""

    def change(self, name: str, **fields: Any) -> Account:
        """Set `fields` of an account, and return it. Raises UsageError if there is no such user."""

    def remove(self, name: str) -> None:
        """Remove an account and its usage. Raises UsageError if there is no such user."""

    def kick(self, name: str) -> None:
        """Have the servers end the user's sessions. Raises UsageError if there is no such user."""

    def changes(self, since: int | None) -> Changes | None:
        """What has changed since the number `since`; all accounts if that is None. None: nothing."""

    def count(self, used: Mapping[str, tuple[int, int]], seen: Iterable[str], now: float) -> None:
        """Add bytes (up, down) by user to the day of `now`, and note that users in `seen` are there."""

    def spent(self, now: float, names: Iterable[str]) -> dict[str, Used]:
        """What users have used in the month (UTC) of `now`, without those who have used nothing."""

    def records(self, now: float, name: str | None = None) -> list[Record]:
        """All users with what they have used in the month of `now`; or only the one called `name`."""

    def days(self, name: str) -> dict[str, Used]:
        """What a user has used by day (`2026-01-31`, UTC), the oldest first."""

    def forget(self, now: float) -> None:
        """Drop old usage."""

    def close(self) -> None:
        """Close it."""
