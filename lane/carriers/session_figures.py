"""What a client's session tells of the lane that carries it: how it copes with the session's data."""

from time import monotonic

from lane.carriers.lanes import STUCK
from lane.carriers.path_meter import DirectionCounts, SessionCounts
from lane.carriers.request_stream import RequestStream
from lane.session.activity import ACTIVE
from lane.session.session import Session
from lane.stream import Carrier, LinkStats

FEW = 1024
"""Bytes between two counts up to which a session only exchanges messages."""
LATE = 0.125
"""Seconds without a byte after which the answer to a message is late."""


class SessionFigures:
    """The figures of `session`, on the stream that carries it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._stream: RequestStream | None = None
        self._moved = self._flow = 0  # bytes until the last `count`; those of late between two of them

    @property
    def carrier(self) -> Carrier | None:
        """The carrier of its stream, if it has one."""
        return self._stream.lease.carrier if self._stream is not None else None

    @property
    def active(self) -> bool:
        """Whether the session moved data lately, or waits to."""
        session, now = self.session, monotonic()
        return now - session.last_data < ACTIVE or bool(session.send_buffer.retained) or self.waiting(now)

    @property
    def urgency(self) -> int:
        """Who goes first to another stream: those that stand still, then those that move data."""
        return 2 if self.waiting(monotonic()) else int(self.active)

    def waiting(self, now: float) -> bool:
        """Whether the session has no stream, or its stream gives no answer."""
        return not self.session.carried or self.session.silence(now) > STUCK

    def tells(self, now: float) -> bool:
        """Whether a PING of the session would tell how its lane copes with data.

        A session that only exchanges a few bytes tells by their answers. It needs a PING once they are late.
        """
        session = self.session
        late = bool(session.send_buffer.retained) and now - session.protocol.liveness.heard > LATE
        return self._flow > FEW or late

    @property
    def rtt(self) -> float | None:
        """The stream's round trip in seconds: the server's measurement if there is one, else the client's."""
        peer_stats = self.session.protocol.peer_stats
        if peer_stats is not None and peer_stats.rtt:
            return peer_stats.rtt / 1e6
        return self._stream.stats().rtt if self._stream else None

    def count(self, shared: dict[Carrier, LinkStats] | None = None) -> tuple[object, SessionCounts]:
        """The session's stream, and the counts on it.

        `shared` has the figures of carriers that were asked just now.
        """
        session, stream, near, far = self.session, self._stream, None, None
        protocol = session.protocol
        if stream is not None and session.sending:
            asked, carrier = {} if shared is None else shared, stream.lease.carrier
            if (own := asked.get(carrier)) is None:
                own = asked[carrier] = stream.stats()
            near = DirectionCounts(own.sent, own.lost, protocol.writer.send_blocked_seconds)
        if (stats := protocol.peer_stats) is not None:
            far = DirectionCounts(stats.sent, stats.lost, stats.held / 1e6)
        activity = protocol.activity
        datagrams = activity.datagrams_in + activity.datagrams_out
        moved = session.receive_window.received + session.send_buffer.acked + datagrams
        self._flow = max(moved - self._moved, self._flow // 2)
        self._moved = moved
        return stream, SessionCounts(moved, (near, far))
