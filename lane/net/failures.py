"""What the kernel says of a socket, as what lane says of it: one table for all who connect or listen."""

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
    errno.EADDRNOTAVAIL: Status.FAILURE,  # all our ports are in use
    errno.ENETUNREACH: Status.NETWORK_UNREACHABLE,
    errno.EAFNOSUPPORT: Status.NETWORK_UNREACHABLE,  # no IPv6 in this kernel
}
"""Most telling first: a host that answered says more than one that did not, and that more than a family
without a route."""
_RANKS = {number: rank for rank, number in enumerate(_TABLE)}


def late() -> OSError:
    """What the kernel says when nobody answers, for who waited less long than it does."""
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def status_of(error: OSError) -> Status:
    """What a failure to connect or to listen means to who asked for it."""
    return _TABLE.get(error.errno or _OTHERS, Status.FAILURE)


def error_text(error: Exception) -> str:
    """One line for people."""
    return getattr(error, "strerror", None) or str(error)


def target_error(error: OSError) -> TargetError:
    """What the application is told."""
    return TargetError(status_of(error), error_text(error).lower())


def ended(number: int) -> Closed:
    """What `errno` `number` on a connection means to who uses it."""
    return Reset() if number in (errno.ECONNRESET, errno.EPIPE) else Closed(os.strerror(number))


def most_telling(failures: Sequence[Failure[OSError | LaneError]]) -> OSError | LaneError:
    """What says most of several failed attempts; the first of equals."""
    return min((failure.build() for failure in failures), key=_rank)


def _rank(error: OSError | LaneError) -> int:
    if isinstance(error, OSError):
        return _RANKS.get(error.errno or _OTHERS, _RANKS[_OTHERS])
    return -1 if isinstance(error, Refused) else _RANKS[_OTHERS]
