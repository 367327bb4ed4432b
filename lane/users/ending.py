"""Why a server ends the sessions of a user.

The reason is the code of a RESET frame for a running session (docs/PROTOCOL.md). It is text in the REPLY to a
new request.
"""

from enum import IntEnum


class Ending(IntEnum):
    """The reasons, beyond the values of `lane.errors.Status`."""

    EXPIRED = 32
    DISABLED = 33
    REMOVED = 34
    SPENT = 35
    KICKED = 36

    @property
    def text(self) -> str:
        """The reason as its user is told it."""
        return _TEXTS[self]


_TEXTS = {
    Ending.EXPIRED: "your account has expired",
    Ending.DISABLED: "your account is disabled",
    Ending.REMOVED: "your account was removed",
    Ending.SPENT: "your quota for this month is used up",
    Ending.KICKED: "the administrator has ended your sessions",
}


def ending_of(code: int) -> Ending | None:
    """The reason that a code of a RESET frame names; None for any other code."""
    try:
        return Ending(code)
    except ValueError:
        return None
