"""Everything that lane itself raises, and what each means to the process and to the application.

Families, apart because they cost different things. `Closed` (with its child `Reset`) ends one stream or
carrier. `Unreachable` and `Refused` are what becomes of a try to get one. `TargetError` is the honest answer
for one request: a status that the application is told. Bytes that break a protocol are a `ProtocolError`:
they cost the peer its own connection and nobody else anything. `Fatal` and its children end the program. Its
exit statuses are in `lane.cli.exits`.

What is raised is not kept: see `Failure`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

E = TypeVar("E", bound=Exception)


@dataclass(frozen=True, slots=True)
class Failure(Generic[E]):
    """An error that is kept for whoever asks later, and built each time that it is raised.

    An exception that was raised holds its traceback: all frames that it passed, and what they held. Raised
    again, it holds more each time, from whichever greenlet that was. So no object keeps an exception.
    """

    kind: type[E]
    arguments: tuple[object, ...]
    attributes: dict[str, object]

    @classmethod
    def of(cls, error: E) -> "Failure[E]":
        """What `error` says, without where it was raised and why."""
        return cls(type(error), error.args, dict(vars(error)))

    def build(self) -> E:
        """A new exception that says the same. Its constructor is not called: it may want other arguments."""
        error = self.kind.__new__(self.kind, *self.arguments)
        error.__dict__.update(self.attributes)
        return error

    def freeze(self) -> tuple[str, tuple[object, ...], dict[str, object]]:
        """The failure as a plain value: an error of a module of its own is named as what it is here."""
        kind = next(kind for kind in self.kind.__mro__ if kind.__module__ in (__name__, "builtins"))
        plain = {
            name: int(value) if isinstance(value, int) else value for name, value in self.attributes.items()
        }
        return kind.__name__, self.arguments, plain

    @classmethod
    def thaw(cls, frozen: tuple[str, tuple[object, ...], dict[str, object]]) -> "Failure[E]":
        """The failure that `freeze` of a LaneError's gave."""
        name, arguments, attributes = frozen
        if "status" in attributes:
            attributes = attributes | {"status": Status(int(str(attributes["status"])))}
        return cls(globals()[name], arguments, attributes)

    def __str__(self) -> str:
        return str(self.build())


class LaneError(Exception):
    """The root: catch it to catch all that lane raises on purpose."""


class Closed(LaneError):
    """The stream, carrier or listener is gone. Never raised for a clean end of data."""


class Reset(Closed):
    """The peer aborted the stream. `code` is its reason, 0 to 2**32 - 1; 0 where the wire has none."""

    def __init__(self, code: int = 0, message: str = "reset by peer") -> None:
        super().__init__(f"{message} (code {code})" if code else message)
        self.code = code


class ProtocolError(LaneError):
    """The peer sent what its protocol does not allow."""


class Status(IntEnum):
    """What became of a request: the reply codes of SOCKS5 (RFC 1928 section 6), used on every wire.

    Those from 16 on answer a request for a session that was there before, and no application sees them.
    """

    OK = 0
    FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8
    COMPLETE = 16
    """The session has ended in good order: all bytes and both ends arrived."""
    GONE = 17
    """There is no such session, or not any more."""
    STALE = 18
    """A newer request for the session was here before."""


class TargetError(LaneError):
    """A request failed for a reason that the application must learn as it is."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(LaneError):
    """No connection to the server could be made, or it was lost before it answered."""


class TurnedAway(Unreachable):
    """The server ended the connection before it answered: it may be crowded, and is worth another try."""


class Refused(LaneError):
    """The server was reached, and one side does not accept the other: wrong key, wrong certificate."""


class Fatal(LaneError):
    """The program cannot do what it was started for: it ends, with one line on standard error."""


class UsageError(Fatal):
    """The command line or a link on it is malformed."""


class ConfigError(Fatal):
    """A configuration cannot work here: bad file or key in it, unreadable certificate, port in use."""
