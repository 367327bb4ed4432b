"""The account of a user: who it is, and what the user may do.

An account is a value. Whatever keeps accounts (`lane.users.store`, or a plugin) gives these out, and replaces
one whole when it changes.
"""

from dataclasses import dataclass, field
from typing import Any

from lane.errors import UsageError
from lane.link import KEY_SIZE
from lane.users.ending import Ending

MAX_NAME = 64
"""The longest name of a user, characters."""
MAX_NOTE = 500
"""The longest note, characters."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user. A limit that is None does not exist. Raises UsageError for what no user can have."""

    name: str
    """Up to MAX_NAME printable characters, of any script."""
    key: bytes = field(repr=False)
    """The user's secret, 32 bytes. The server needs it, and not only a hash: a HELLO has a proof that the key
    gives together with the server's certificate (`lane.proto.hello.token`)."""
    expires: float | None = None
    """The end of the account, seconds since the epoch."""
    quota: int | None = None
    """Bytes a calendar month (UTC), up and down together."""
    rate: int | None = None
    """Bytes a second, up and down each, of all the user's sessions together."""
    sessions: int | None = None
    """Sessions at once."""
    devices: int | None = None
    """Devices at once: clients, whatever their addresses are."""
    disabled: bool = False
    note: str = ""
    """A text of the operator's."""
    created: float = 0.0
    """Seconds since the epoch."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.key) != KEY_SIZE:
            raise UsageError(f"the key of a user is {KEY_SIZE} bytes")
        if len(self.note) > MAX_NOTE or not self.note.isprintable():
            raise UsageError(f"a note has at most {MAX_NOTE} printable characters")

    def refusal(self, now: float) -> Ending | None:
        """Why the user may do nothing at the time `now` (seconds since the epoch); None if it may."""
        if self.disabled:
            return Ending.DISABLED
        if self.expires is not None and now >= self.expires:
            return Ending.EXPIRED
        return None

    def public(self) -> dict[str, Any]:
        """The account as JSON has it, without its key."""
        return {
            "name": self.name,
            "expires": self.expires,
            "quota": self.quota,
            "rate": self.rate,
            "sessions": self.sessions,
            "devices": self.devices,
            "disabled": self.disabled,
            "note": self.note,
            "created": self.created,
        }


def refusal(account: Account | None, now: float) -> Ending | None:
    """See `Account.refusal`. None: an account that was removed."""
    return Ending.REMOVED if account is None else account.refusal(now)


def check_name(name: str) -> str:
    """Return `name` if a user can have it. Raises UsageError."""
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or not name.strip():
        raise UsageError(f"the name of a user has 1 to {MAX_NAME} printable characters")
    return name
