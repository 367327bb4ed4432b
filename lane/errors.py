"""All exceptions of lane, and what each means to the process and to the application.

The families differ in what they end:

- `Closed` and its subclass `Reset` end one stream or carrier.
- `Unreachable` and `Refused` end one attempt to connect to the server.
- `TargetError` ends one request. It has the status that the application is told.
- `ProtocolError` ends the connection of a peer that broke its protocol, and nobody else's.
- `Fatal` and its subclasses end the program. `lane.cli.exits` has its exit statuses.

No object keeps an exception that was raised: see `Failure`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

E = TypeVar("E", bound=Exception)


@dataclass(frozen=True, slots=True)
class Failure(Generic[E]):
    """A description of an error, from which a new exception is built each time it is raised.

    An exception that was raised refers to its traceback: all frames that it passed, and their variables. Each
    time it is raised again, it refers to more, from several greenlets. So no object keeps an exception.
    """

    kind: type[E]
    arguments: tuple[object, ...]
    attributes: dict[str, object]

    @classmethod
    def of(cls, error: E) -> "Failure[E]":
        """Describe `error`, without its traceback and its cause."""
        return cls(type(error), error.args, dict(vars(error)))

    def build(self) -> E:
        """Build an equal exception. Its constructor is not called, since that may take other arguments."""
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
        return cls(globals()[name], tuple(arguments), attributes)

    def __str__(self) -> str:
        return str(self.build())


class LaneError(Exception):
    """The base class of all errors that lane raises on purpose."""


class Closed(LaneError):
    """The stream, carrier or listener is closed. Never raised for a clean end of data."""


class Reset(Closed):
    """The peer aborted the stream. `code` is its reason, 0 to 2**32 - 1; 0 where the wire has none."""

    def __init__(self, code: int = 0, message: str = "reset by peer") -> None:
        super().__init__(f"{message} (code {code})" if code else message)
        self.code = code


class Suspended(Exception):
    """The session goes on in another process. `rest`: the bytes of the call that were not moved.

    It is no LaneError: nothing has failed, and nobody may act as if it had.
    """

    def __init__(self, rest: bytes | memoryview = b"") -> None:
        super().__init__("the session goes on in another process")
        self.rest = rest


class ProtocolError(LaneError):
    """The peer sent something that its protocol does not allow."""


class Status(IntEnum):
    """The result of a request: the reply codes of SOCKS5 (RFC 1928 section 6), used in every protocol.

    The codes from 16 on answer a request to resume a session. No application sees them.
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
    """The session has ended cleanly: all bytes arrived, and so did the end of both directions."""
    GONE = 17
    """The session does not exist, or no longer exists."""
    STALE = 18
    """A newer request for the session has already arrived."""


class TargetError(LaneError):
    """A request failed. The application is told the exact status."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(LaneError):
    """No connection to the server could be made, or the connection was lost before the server answered."""


class TurnedAway(Unreachable):
    """The server closed the connection before it answered. It may be overloaded; another try may succeed."""


class Refused(LaneError):
    """The server was reached, but one side rejected the other: a wrong key or a wrong certificate."""


class Fatal(LaneError):
    """The program cannot do its task. It ends with one line on standard error."""


class UsageError(Fatal):
    """The command line, or a link on it, is malformed."""


class ConfigError(Fatal):
    """The configuration cannot work: a bad file, an unknown key, an unreadable certificate, a port in use."""
