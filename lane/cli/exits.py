"""The exit statuses of the program (sysexits.h), by the error that ended it."""

from lane.errors import ConfigError, Fatal, LaneError, Refused, Unreachable, UsageError

STATUSES: dict[type[LaneError], int] = {
    UsageError: 2,
    Unreachable: 69,
    Refused: 77,
    ConfigError: 78,
    Fatal: 1,
}
"""The exit status by class. A subclass comes before its base class."""
ENDS = tuple(STATUSES)
"""Errors that end the program cleanly. Any other one is a bug."""


def exit_status(error: LaneError) -> int:
    """The status for `error`, which is one of ENDS."""
    return next(status for kind, status in STATUSES.items() if isinstance(error, kind))
