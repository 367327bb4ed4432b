"""The streams of a carrier: those in use, and those that its peer opened and nobody has accepted yet."""

from gevent.event import Event

from lane.errors import LaneError
from lane_quic.stream import QuicStream

MAX_WAITING = 128
"""Streams that wait to be accepted. The stream limit does not bound them: a peer may reset what it opens."""


class Streams(dict[int, QuicStream]):
    """The streams in use, by ID. The peer's first one has the ID `next_incoming`."""

    def __init__(self, next_incoming: int) -> None:
        super().__init__()
        self.next_incoming = next_incoming
        self.waiting: list[QuicStream] = []
        """The streams that wait to be accepted."""
        self.arrived = Event()
        """Set when there is one, or the carrier has ended."""
        self._over = False

    @property
    def full(self) -> bool:
        """Whether no more may wait to be accepted."""
        return len(self.waiting) >= MAX_WAITING

    def add_incoming(self, stream: QuicStream) -> None:
        """Add the peer's next stream."""
        self[self.next_incoming] = stream
        self.waiting.append(stream)
        self.arrived.set()
        self.next_incoming += 4

    def accept(self) -> QuicStream | None:
        """Block until there is a stream to accept. None: the carrier has ended, and no stream waits."""
        while not self.waiting:
            if self._over:
                return None
            self.arrived.clear()
            self.arrived.wait()  # no limit: the peer may open none; the end of the carrier is one
        return self.waiting.pop(0)

    def end(self, error: LaneError) -> None:
        """Forget all streams, since the carrier has ended. Those that wait can still be accepted."""
        self._over = True
        self.arrived.set()
        for stream in list(self.values()):
            stream.fail(error)
        self.clear()
