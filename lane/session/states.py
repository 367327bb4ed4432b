"""The states of a session, and all transitions between them, as tables.

A session is three small machines. Each of its two directions goes from open to ended, as the streams of QUIC
do (RFC 9000 section 3). Its link to a stream comes and goes. And its life ends in one of two ways: closed,
which both sides agree on, or aborted. What the tables do not list must not happen.
"""

from enum import Enum
from typing import TypeVar


class _Machine(Enum):
    """Members are looked up by what they are, which is quicker than by name."""

    __hash__ = object.__hash__


class Direction(_Machine):
    """One direction, as its sender and its receiver each see it."""

    OPEN = "open"
    FINISHED = "finished"
    """FIN was queued, or has come: the size is known."""
    CONSUMED = "consumed"
    """The receiver has consumed all of it, FIN included."""
    ENDED = "ended"
    """END was said: no frame of the session follows."""


class Link(_Machine):
    """The stream that carries the session."""

    DETACHED = "detached"
    """There is none. What is sent is retained."""
    RESUMING = "resuming"
    """There is one, and the peer has not said yet from which offset it wants data."""
    ATTACHED = "attached"


class Life(_Machine):
    """The session as a whole."""

    OPEN = "open"
    CLOSING = "closing"
    """All was consumed, and END is to be said."""
    CLOSED = "closed"
    ABORTING = "aborting"
    """It was aborted on this side, and the peer may not know."""
    ABORTED = "aborted"
    """It was aborted or lost, and the peer knows, or can't be told."""


class Cause(_Machine):
    """What may change a state."""

    FIN, CONSUMED, END = "FIN", "all was consumed", "END"
    ATTACH, RESUME, RECEIVED, DETACH = "a stream", "a further stream", "RECEIVED", "the stream is gone"
    CLOSE, ABORT, FAIL, HEARD, RELEASE = "close", "abort", "failure", "the peer knows of the abort", "release"


S = TypeVar("S")


class InvalidTransition(RuntimeError):
    """Something happened that must not happen in this state."""


class Row(dict[Cause, S]):
    """What follows on `state`, by cause. Any other cause raises InvalidTransition."""

    def __init__(self, state: S, following: dict[Cause, S]) -> None:
        super().__init__(following)
        self._state = state

    def __missing__(self, cause: Cause) -> S:
        raise InvalidTransition(f"{cause.name} in the state {self._state}")


def _table(rows: dict[S, dict[Cause, S]]) -> dict[S, Row[S]]:
    return {state: Row(state, following) for state, following in rows.items()}


DIRECTION = _table({
    Direction.OPEN: {Cause.FIN: Direction.FINISHED},
    # After a move, FIN is repeated.
    Direction.FINISHED: {Cause.FIN: Direction.FINISHED, Cause.CONSUMED: Direction.CONSUMED},
    Direction.CONSUMED: {Cause.FIN: Direction.CONSUMED, Cause.END: Direction.ENDED},
    Direction.ENDED: {},
})  # fmt: skip
CONSUMED = Direction.CONSUMED, Direction.ENDED
"""The states of a direction whose FIN was consumed."""
LINK = _table({
    Link.DETACHED: {
        Cause.ATTACH: Link.ATTACHED,
        Cause.RESUME: Link.RESUMING,
        Cause.DETACH: Link.DETACHED,
    },
    Link.RESUMING: {Cause.RECEIVED: Link.ATTACHED, Cause.DETACH: Link.DETACHED},
    Link.ATTACHED: {Cause.DETACH: Link.DETACHED},
})  # fmt: skip
LIFE = _table({
    Life.OPEN: {Cause.CLOSE: Life.CLOSING, Cause.ABORT: Life.ABORTING, Cause.FAIL: Life.ABORTED},
    Life.CLOSING: {Cause.FAIL: Life.ABORTED, Cause.RELEASE: Life.CLOSED},
    Life.CLOSED: {Cause.RELEASE: Life.CLOSED},
    Life.ABORTING: {
        Cause.HEARD: Life.ABORTED,
        Cause.FAIL: Life.ABORTING,
        Cause.RELEASE: Life.ABORTING,
    },
    Life.ABORTED: {Cause.HEARD: Life.ABORTED, Cause.FAIL: Life.ABORTED, Cause.RELEASE: Life.ABORTED},
})  # fmt: skip
