"""The read-only view of a session."""

from time import monotonic

from lane.errors import LaneError
from lane.session.protocol import SessionProtocol
from lane.session.states import Attachment, Direction, Life


class SessionView:
    """The view of the session with this `protocol`."""

    def __init__(self, protocol: SessionProtocol) -> None:
        self.protocol = protocol
        self.receive_window, self.send_buffer = protocol.receive_window, protocol.send_buffer

    @property
    def error(self) -> LaneError | None:
        """The error that ended the session, unless it was a clean end."""
        failure = self.protocol.failure
        return failure.build() if failure else None

    @property
    def over(self) -> bool:
        """Whether the session needs no stream any more, except for the news of its abort."""
        return self.protocol.over

    @property
    def complete(self) -> bool:
        """Whether both sides have consumed all bytes and both ends, and know that of each other."""
        return self.protocol.complete

    @property
    def parted(self) -> bool:
        """Whether both sides sent END, so that the stream is free."""
        ended = self.send_buffer.state is self.receive_window.state is Direction.ENDED
        return ended and self.protocol.failure is None

    @property
    def carried(self) -> bool:
        """Whether a stream carries the session."""
        return self.protocol.attachment is not Attachment.DETACHED

    @property
    def abort_unheard(self) -> bool:
        """Whether it was aborted on this side, and the peer may not know."""
        return self.protocol.life is Life.ABORTING

    @property
    def end_unheard(self) -> bool:
        """Whether it is complete on this side, and the peer may not know."""
        unheard = self.complete and self.receive_window.state is not Direction.ENDED
        return unheard and self.protocol.failure is None

    @property
    def last_data(self) -> float:
        """When data moved last."""
        return self.protocol.activity.last_data

    @property
    def retained(self) -> int:
        """Bytes in memory, received and sent ones."""
        return self.receive_window.held + self.send_buffer.retained

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes from the peer that have left this process, and bytes for the peer, each with datagrams."""
        window, activity = self.receive_window, self.protocol.activity
        return (
            window.consumed - window.ended + activity.datagrams_in,
            self.send_buffer.sent + activity.datagrams_out,
        )

    @property
    def ready(self) -> bool:
        """Whether `recv` would not wait."""
        return self.protocol.readable

    @property
    def sending(self) -> bool:
        """Whether bytes are in flight, so that losses say something about the carrier."""
        return self.protocol.is_sending(monotonic())

    @property
    def asking(self) -> bool:
        """Whether a PING is outstanding."""
        return self.carried and self.protocol.liveness.asked

    def silence(self, now: float) -> float:
        """Seconds without any byte since the outstanding PING; 0 if there is none."""
        return self.protocol.liveness.silence(now) if self.carried else 0.0

    def backlog(self, now: float) -> float:
        """Seconds since the outstanding PING; 0 if there is none. A PONG on a slow lane waits behind data."""
        return self.protocol.liveness.waiting(now) if self.carried else 0.0
