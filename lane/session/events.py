"""The events of a session's protocol, for its runner, in the order in which they happened."""

from enum import Enum, auto

from lane.session.byte_queue import Buffer


class DataReceived:
    """Bytes for a reader that has consumed all bytes before them.

    `data` may be a view of the input. A runner that can deliver bytes at once sets `taken` to their number,
    from the first on. They count as consumed. The protocol copies the others when it is asked for the next
    event.
    """

    __slots__ = ("data", "taken")

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.taken = 0


class Notice(Enum):
    """Events without data."""

    CREDIT = auto()
    """The peer granted credit, or consumed bytes."""
    MOVE = auto()
    """The peer asks that the session move to another carrier."""
    RESUMED = auto()
    """The peer named the offset from which it wants data, or acknowledged some of it for the first time.

    There may be bytes to send again, and there may be credit."""
    PROGRESS = auto()
    """New data or a FIN came."""
    PAUSE = auto()
    """Several frames were handled. Other greenlets may run now: the rest of the input was copied."""


Event = DataReceived | Notice
