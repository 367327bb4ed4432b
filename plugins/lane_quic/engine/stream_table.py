"""The streams of a connection, in a table that looks at those only that have something to say."""

from functools import partial
from typing import Any

from lane_quic.engine.assembler import Assembler
from lane_quic.engine.sender import Sender


class StreamTable(dict[int, Any]):
    """The streams of a connection, by their IDs. aioquic asks every one of them, for every packet, what it
    has to say; a proxy has hundreds that say nothing. So here a stream stands in the queue only while it has
    something to say, and wakes when it has again.
    """

    def __init__(self) -> None:
        self.with_credit: dict[int, Any] = {}
        """Those that have credit to announce."""
        self.writing = False
        """Whether aioquic writes a packet. Then it asks for `values` only to have them announce credit."""
        self._woken: list[Any] = []

    def __setitem__(self, stream_id: int, stream: Any) -> None:
        wake = partial(self._wake, stream_id)
        stream.sender, stream.receiver = Sender(stream_id, wake), Assembler(stream_id, wake)
        stream.queued = True  # aioquic puts it there
        super().__setitem__(stream_id, stream)

    def values(self) -> Any:
        """All streams; while a packet is written, those that have credit to announce."""
        if self.writing:
            return list(self.with_credit.values()) if self.with_credit else ()
        return super().values()

    def _wake(self, stream_id: int) -> None:
        stream = self.get(stream_id)
        if stream is not None and not stream.queued:
            stream.queued = True
            self._woken.append(stream)

    def awake(self, queue: list[Any]) -> list[Any]:
        """The streams that have something to say: those of `queue`, in order, and those that woke since."""
        found = []
        for stream in (*queue, *self._woken):
            stream.queued = has_something_to_say(stream)
            if stream.queued:
                found.append(stream)
        self._woken.clear()
        return found


def has_something_to_say(stream: Any) -> bool:
    """Whether aioquic would do anything for a stream, if there is room and credit."""
    sender = stream.sender
    return bool(
        not sender.buffer_is_empty
        or sender.reset_pending
        or stream.receiver.stop_pending
        or stream.is_finished  # it is dropped
    )
