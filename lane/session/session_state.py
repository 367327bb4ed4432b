"""The whole state of a session, and the ways in which it ends.

A session can move to another process: `freeze` returns its state as a plain value, and `thaw` makes a session
that goes on from there.
"""

from dataclasses import astuple
from typing import Any, Self

from lane.budget import Budget
from lane.errors import Failure, LaneError
from lane.proto.frames import FrameReader, Stats
from lane.session.activity import Activity
from lane.session.empty_frames import EmptyFrames
from lane.session.frame_writer import END_DUE, RESET_DUE, FrameWriter
from lane.session.liveness import Liveness
from lane.session.receive_window import ReceiveWindow
from lane.session.send_buffer import SendBuffer
from lane.session.states import LIFE, Attachment, Cause, Life

_NO_READER = FrameReader()
"""The reader of a session without a stream. It is never fed."""
_GOING_ON = Life.OPEN, Life.CLOSING


class SessionState:
    """The state of a session at `now`, without a stream: see `SessionProtocol`."""

    def __init__(
        self, credit: int, buffer_size: int, budget: Budget, now: float, *, resumable: bool = False
    ) -> None:
        self._compose(
            ReceiveWindow(buffer_size, budget),
            SendBuffer(buffer_size, budget, credit),
            Liveness(now),
            Activity(now),
        )
        self.resumable = resumable
        self.peer_stats: Stats | None = None
        """The peer's newest STATS, of the stream that carries the session now."""
        self.abort_code: int | None = None
        """The code with which this side aborted the session."""
        self.failure: Failure[LaneError] | None = None
        """The error that ended the session, unless it was a clean end."""
        self.life, self.attachment = Life.OPEN, Attachment.DETACHED
        self.over = False
        """Whether the session needs no stream any more, except for the news of its abort."""
        self._reader = _NO_READER
        self.trailing_data: bytes | None = None
        """Bytes behind the peer's END, which belong to another session; None before an END."""
        self._feeding = False  # the events of an input are being read
        self._empty_frames = EmptyFrames()

    def _compose(
        self, window: ReceiveWindow, buffer: SendBuffer, liveness: Liveness, activity: Activity
    ) -> None:
        self.receive_window = window
        self.send_buffer = buffer
        self.liveness = liveness
        self.activity = activity
        self.writer = FrameWriter(window, buffer, liveness)
        self.data_to_send = self.writer.next

    def freeze(self) -> dict[str, Any]:
        """The whole state in dictionaries, lists, tuples, texts, numbers, bytes and None. It changes nothing.

        Raises RuntimeError while bytes of the stream are being handled: call `detach` first.
        """
        attached = self.attachment is not Attachment.DETACHED
        if attached and self._feeding:
            raise RuntimeError("some received bytes were not handled yet")
        return {
            "resumable": self.resumable,
            "abort_code": self.abort_code,
            "states": [self.life.value, self.attachment.value],
            "failure": self.failure.freeze() if self.failure else None,
            "peer_stats": astuple(self.peer_stats) if self.peer_stats else None,
            "receive_window": self.receive_window.freeze(),
            "send_buffer": self.send_buffer.freeze(),
            "liveness": self.liveness.freeze(),
            "activity": self.activity.freeze(),
            "empty_frames": self._empty_frames.freeze(self.receive_window.received),
            "writer": self.writer.freeze(),
            "reader": self._reader.freeze() if attached else None,
        }

    @classmethod
    def thaw(cls, frozen: dict[str, Any], budget: Budget) -> Self:
        """A session that goes on from the value of `freeze`, in any process of the same machine.

        It charges its reserved bytes to `budget` in any case. The old session must not be used any more.
        """
        session = cls(0, 0, budget, 0.0, resumable=frozen["resumable"])
        session._compose(
            ReceiveWindow.thaw(frozen["receive_window"], budget),
            SendBuffer.thaw(frozen["send_buffer"], budget),
            Liveness.thaw(frozen["liveness"]),
            Activity.thaw(frozen["activity"]),
        )
        session.writer.thaw(frozen["writer"])
        session.abort_code = frozen["abort_code"]
        life, attachment = frozen["states"]
        session.life, session.attachment = Life(life), Attachment(attachment)
        session.over = session.life not in _GOING_ON
        session.failure = Failure.thaw(frozen["failure"]) if frozen["failure"] else None
        session.peer_stats = Stats(*frozen["peer_stats"]) if frozen["peer_stats"] else None
        session._reader = FrameReader(frozen["reader"])
        session.trailing_data = session._reader.rest
        session._empty_frames = EmptyFrames(frozen["empty_frames"], session.receive_window.received)
        return session

    @property
    def complete(self) -> bool:
        """Whether both sides have consumed all bytes and both ends, and know that of each other."""
        return self.receive_window.ended and self.send_buffer.fin_acked

    def abort(self, code: int, error: LaneError) -> None:
        """End both directions with `error`. The peer learns `code`, on this stream or on the next one."""
        if self.life is Life.OPEN:
            self._live_on(Cause.ABORT)
            self.abort_code = self.writer.reset_code = code
            self.writer.due |= RESET_DUE
            self._failed(error)

    def abort_heard(self) -> None:
        """The peer knows that the session was aborted."""
        self._live_on(Cause.HEARD)

    def fail(self, error: LaneError) -> None:
        """End the session with `error`. No stream will carry it any more, and the peer is not told."""
        if not self.over:
            self._live_on(Cause.FAIL)
            self._failed(error)

    def close(self) -> None:
        """Both directions are complete: END is due, and no frame after it."""
        self._live_on(Cause.CLOSE)
        self.writer.due |= END_DUE

    def release(self) -> None:
        """Drop all bytes. The session must be closing, or over. Idempotent."""
        self._live_on(Cause.RELEASE)
        self.receive_window.release()
        self.send_buffer.release()

    def _live_on(self, cause: Cause) -> None:
        self.life = LIFE[self.life][cause]
        self.over = self.life not in _GOING_ON

    def _failed(self, error: LaneError) -> None:
        self.failure = Failure.of(error)
        self.send_buffer.release()
