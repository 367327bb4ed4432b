"""The states of a session, and all transitions between them, as tables.

A session is three small machines. Each of its two directions goes from open to ended, like the parts of a
QUIC stream (RFC 9000 section 3). Its attachment to a stream comes and goes. And its life ends in one of two
ways: closed, on which both sides agree, or aborted. A transition that the tables do not list must not happen.
"""

from enum import Enum
from typing import TypeVar


class _Machine(Enum):
    """Its members hash by identity, which is faster than by name."""

    __hash__ = object.__hash__


class Direction(_Machine):
    """One direction, as one of its ends sees it."""

    OPEN = "open"
    FINISHED = "finished"
    """FIN was queued, or was received: the size is known."""
    CONSUMED = "consumed"
    """The receiver has consumed all bytes and FIN."""
    ENDED = "ended"
    """END was sent, or received: no frame of the session follows."""


class Attachment(_Machine):
    """The stream that carries the session."""

    DETACHED = "detached"
    """There is none. Sent bytes are retained."""
    RESUMING = "resuming"
    """The peer has not yet named the offset from which it wants data."""
    ATTACHED = "attached"


class Life(_Machine):
    """The session as a whole."""

    OPEN = "open"
    CLOSING = "closing"
    """All bytes were consumed, and END is to be sent."""
    CLOSED = "closed"
    ABORTING = "aborting"
    """It was aborted on this side, and the peer may not know."""
    ABORTED = "aborted"
    """It was aborted or lost, and the peer knows that or can't be told."""


class Cause(_Machine):
    """The reasons for a transition."""

    FIN, CONSUMED, END = "FIN", "all was consumed", "END"
    ATTACH, RESUME, RECEIVED, DETACH = "a stream", "a further stream", "RECEIVED", "the stream is gone"
    CLOSE, ABORT, FAIL, HEARD, RELEASE = "close", "abort", "failure", "the peer knows of the abort", "release"


S = TypeVar("S")


class InvalidTransition(RuntimeError):
    """A cause that the state does not allow: a fault in lane."""


class Row(dict[Cause, S]):
    """The next states of `state`, by cause. Other causes raise InvalidTransition."""

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
ATTACHMENT = _table({
    Attachment.DETACHED: {
        Cause.ATTACH: Attachment.ATTACHED,
        Cause.RESUME: Attachment.RESUMING,
        Cause.DETACH: Attachment.DETACHED,
    },
    Attachment.RESUMING: {Cause.RECEIVED: Attachment.ATTACHED, Cause.DETACH: Attachment.DETACHED},
    Attachment.ATTACHED: {Cause.DETACH: Attachment.DETACHED},
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
