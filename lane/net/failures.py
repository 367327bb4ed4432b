"""Translates the kernel's socket errors into lane's errors: one table for all connects and listeners."""

import errno
import os
from collections.abc import Sequence

from lane.errors import Closed, Failure, LaneError, Refused, Reset, Status, TargetError

_OTHERS = 0
_TABLE = {
    errno.ECONNREFUSED: Status.REFUSED,
    _OTHERS: Status.FAILURE,
    errno.EACCES: Status.NOT_ALLOWED,  # a firewall of this machine
    errno.EPERM: Status.NOT_ALLOWED,
    errno.ETIMEDOUT: Status.TTL_EXPIRED,
    errno.EHOSTUNREACH: Status.HOST_UNREACHABLE,
    errno.EADDRNOTAVAIL: Status.FAILURE,  # all local ports are in use
    errno.ENETUNREACH: Status.NETWORK_UNREACHABLE,
    errno.EAFNOSUPPORT: Status.NETWORK_UNREACHABLE,  # no IPv6 in this kernel
}
"""The status for each errno, the most telling first.

A host that answered tells more than one that did not, and that tells more than a family without a route.
"""
_RANKS = {number: rank for rank, number in enumerate(_TABLE)}


def late() -> OSError:
    """The kernel's error for a peer that does not answer, for callers with a shorter time limit."""
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def status_of(error: OSError) -> Status:
    """The status for a failed attempt to connect or to listen."""
    return _TABLE.get(error.errno or _OTHERS, Status.FAILURE)


def error_text(error: Exception) -> str:
    """The text of an error, as one readable line."""
    return getattr(error, "strerror", None) or str(error)


def target_error(error: OSError) -> TargetError:
    """The error to report to the application."""
    return TargetError(status_of(error), error_text(error).lower())


def ended(number: int) -> Closed:
    """The error for a connection that broke with the errno `number`."""
    return Reset() if number in (errno.ECONNRESET, errno.EPIPE) else Closed(os.strerror(number))


def most_telling(failures: Sequence[Failure[OSError | LaneError]]) -> OSError | LaneError:
    """The most telling error of several failed attempts; the first of equals."""
    return min((failure.build() for failure in failures), key=_rank)


def _rank(error: OSError | LaneError) -> int:
    if isinstance(error, OSError):
        return _RANKS.get(error.errno or _OTHERS, _RANKS[_OTHERS])
    return -1 if isinstance(error, Refused) else _RANKS[_OTHERS]
