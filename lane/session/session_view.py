"""What others may know of a session that is at work, without touching it."""

from time import monotonic

from lane.errors import LaneError
from lane.session.protocol import SessionProtocol
from lane.session.states import Direction, Life, Link


class SessionView:
    """Of the session whose `protocol` this is."""

    def __init__(self, protocol: SessionProtocol) -> None:
        self.protocol = protocol
        self.receive_window, self.send_buffer = protocol.receive_window, protocol.send_buffer

    @property
    def error(self) -> LaneError | None:
        """What ended the session, if that was no clean end."""
        failure = self.protocol.failure
        return failure.build() if failure else None

    @property
    def over(self) -> bool:
        """Whether nothing of the session is left to be carried."""
        return self.protocol.over

    @property
    def complete(self) -> bool:
        """Whether all was consumed, both ends included, and both sides know it."""
        return self.protocol.complete

    @property
    def parted(self) -> bool:
        """Whether both sides said that all is complete, and the stream is free."""
        protocol = self.protocol
        ended = protocol.send_buffer.state is protocol.receive_window.state is Direction.ENDED
        return ended and protocol.failure is None

    @property
    def carried(self) -> bool:
        """Whether there is a stream."""
        return self.protocol.link is not Link.DETACHED

    @property
    def abort_unheard(self) -> bool:
        """Whether it was aborted on this side, and the peer may not know."""
        return self.protocol.life is Life.ABORTING

    @property
    def last_data(self) -> float:
        """When data moved last."""
        return self.protocol.activity.last_data

    @property
    def retained(self) -> int:
        """Bytes that are held, for the owner and for the peer."""
        return self.receive_window.held + self.send_buffer.retained

    @property
    def ready(self) -> bool:
        """Whether `recv` would not wait."""
        return self.protocol.readable

    @property
    def sending(self) -> bool:
        """Whether what is sent, and what is lost of it, tells something of the carrier."""
        return self.protocol.is_sending(monotonic())

    def silence(self, now: float) -> float:
        """Seconds for which nothing came though it was asked for; 0 where all is well."""
        return self.protocol.liveness.silence(now) if self.carried else 0.0

    def backlog(self, now: float) -> float:
        """Seconds that an answer has been due: on a lane that takes too little it waits behind data."""
        return self.protocol.liveness.waiting(now) if self.carried else 0.0
