"""The table of a connection's streams. Only streams with something to send cost work."""

from functools import partial
from typing import Any

from lane_quic.engine.assembler import Assembler
from lane_quic.engine.sender import Sender


class StreamTable(dict[int, Any]):
    """The streams of a connection, by ID.

    aioquic checks every stream for each packet, and a proxy has hundreds of idle ones. Here a stream is in
    the queue only while it has something to send. A flag that is raised (wake_flag.py) puts it there again.
    """

    def __init__(self) -> None:
        self.with_credit: dict[int, Any] = {}
        """The streams that have credit to announce."""
        self.writing = False
        """Whether aioquic is writing a packet. It then calls `values` only to announce credit."""
        self.woken: list[Any] = []
        """The streams that have something to send again, and are not in the queue yet."""

    def __setitem__(self, stream_id: int, stream: Any) -> None:
        wake = partial(self._wake, stream_id)
        stream.sender, stream.receiver = Sender(stream_id, wake), Assembler(stream_id, wake)
        stream.queued = True  # aioquic queues a new stream
        stream.look_at = 0  # bytes that were read, before which no look for new credit is needed
        super().__setitem__(stream_id, stream)

    def clear(self) -> None:
        """Forget all streams."""
        self.with_credit.clear()
        self.woken.clear()
        super().clear()

    def values(self) -> Any:
        """All streams, or the ones that have credit to announce while a packet is written."""
        if self.writing:
            return list(self.with_credit.values()) if self.with_credit else ()
        return super().values()

    def _wake(self, stream_id: int) -> None:
        stream = self.get(stream_id)
        if stream is not None and not stream.queued:
            stream.queued = True
            self.woken.append(stream)

    def awake(self, queue: list[Any]) -> list[Any]:
        """The streams with something to send: those of `queue`, in order, and then the woken ones."""
        if not queue and not self.woken:
            return queue
        found = []
        for stream in (*queue, *self.woken):
            stream.queued = has_something_to_say(stream)
            if stream.queued:
                found.append(stream)
        self.woken.clear()
        return found


def has_something_to_say(stream: Any) -> bool:
    """Whether aioquic would send something for the stream, given room and credit, or drop it."""
    sender = stream.sender
    return bool(
        not sender.buffer_is_empty
        or sender.reset_pending
        or stream.receiver.stop_pending
        or stream.is_finished  # aioquic drops it
    )
