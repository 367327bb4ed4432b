"""What a session's protocol tells whoever runs it, in the order in which it happened."""

from enum import Enum, auto

from lane.session.byte_queue import Buffer


class DataReceived:
    """Bytes for a reader that has nothing left to read.

    `data` may be a view of what was fed: whoever takes bytes at once sets `taken` to how many, from the first
    on. They count as consumed. The others are copied and held, as soon as the next event is asked for.
    """

    __slots__ = ("data", "taken")

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.taken = 0


class Notice(Enum):
    """What has no more to say than that it happened."""

    CREDIT = auto()
    """The peer takes more, or has consumed more."""
    RESUMED = auto()
    """The peer said from which offset it wants data: there may be some to send again."""
    PROGRESS = auto()
    """Data came, or their end."""
    PAUSE = auto()
    """Several frames were handled, and this is a good moment to let others run.

    The rest of what was fed was copied."""


Event = DataReceived | Notice
