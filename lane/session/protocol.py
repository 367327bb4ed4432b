"""The protocol of one session, without I/O: bytes in, events out, and bytes to send.

It has no socket, no greenlet and no clock. Its caller passes the time, in seconds of a monotonic clock. So a
test can run a session for hours in a second.

A resumable session outlives its stream. Without a stream it still takes bytes to send, and retains them.
"""

from collections.abc import Iterator

from lane.errors import Closed, LaneError, ProtocolError, Reset
from lane.proto.frames import (
    MOVE,
    Ack,
    Data,
    End,
    Fin,
    Frame,
    FrameReader,
    Ping,
    Pong,
    Received,
    ResetFrame,
    Stats,
    aborted,
)
from lane.session.byte_queue import Buffer
from lane.session.events import DataReceived, Event, Notice
from lane.session.frame_writer import ACK_DUE, PING_DUE, PONG_DUE
from lane.session.session_state import SessionState
from lane.session.states import ATTACHMENT, Attachment, Cause, Direction, Life
from lane.users.ending import ending_of

TURN = 8
"""Frames between two pauses, in which other greenlets may run. Tiny frames may come by the thousand."""


class SessionProtocol(SessionState):
    """A session at `now`. It lives on the streams that are attached to it, one after the other.

    `credit`: bytes that the peer takes before its first ACK. `buffer_size`: the most bytes that a direction
    holds; those beyond the first window come out of `budget`. `resumable`: it survives the loss of a stream.
    """

    # For the owner.

    @property
    def readable(self) -> bool:
        """Whether `read` would return bytes or the end, or raise."""
        return bool(self.receive_window.held or self.receive_window.at_end or self.failure)

    def read(self, limit: int) -> Buffer | None:
        """Returns 1 to `limit` bytes, `b""` at the peer's end, or None if there is nothing yet.

        The window's next `consume` consumes the bytes. Raises the session's error, after its data.
        """
        window = self.receive_window
        if window.held:
            return window.take(limit)
        if window.at_end:
            if window.state is Direction.FINISHED:
                window.take_end()
            return b""
        if self.failure:
            raise self.failure.build()
        return None

    def allowance(self, wanted: int) -> int:
        """How many of `wanted` bytes may be sent now. Raises Closed, or the session's error."""
        if self.failure:
            raise self.failure.build()
        if self.send_buffer.state is not Direction.OPEN:
            raise Closed("this direction is finished")
        return self.send_buffer.allowance(wanted)

    def send(self, data: Buffer, now: float) -> None:
        """Send `data`, which is within the allowance and must not change any more."""
        self.send_buffer.send(data)
        self.activity.last_data = now
        self.liveness.moved()

    def send_message(self, data: Buffer, now: float) -> bytes | None:
        """Send `data`, and return the frames to write in front of them: see `FrameWriter.next_message`."""
        head = self.writer.next_message(data, now)
        if head is not None:
            self.activity.last_data = now
            self.liveness.moved()
        return head

    def want_credit(self) -> None:
        """A writer waits for credit. The peer may wait for more data before it acknowledges: send a PING."""
        if self.send_buffer.held_back and not self.liveness.asked:
            self.writer.due |= PING_DUE

    def finish(self) -> None:
        """Half-close our direction. Idempotent."""
        if self.send_buffer.state is Direction.OPEN and not self.failure:
            self.send_buffer.finish()

    def peer_completed(self) -> None:
        """The peer says that the session is complete. Its last ACK was lost."""
        if self.over:
            return
        if self.send_buffer.final is None or not self.receive_window.ended:
            self.fail(ProtocolError("the peer takes for complete what is not"))
            return
        self._peer_ended()
        self.send_buffer.acknowledge(self.send_buffer.final + 1, 0)

    def _peer_ended(self) -> None:
        """The peer knows that the session is complete, as after its END."""
        if self.receive_window.state is Direction.CONSUMED:
            self.receive_window.end()

    def is_sending(self, now: float) -> bool:
        """Whether bytes are in flight, so that losses say something about the carrier."""
        return self.activity.is_sending(self.send_buffer, now)

    def is_quiet(self, most: int) -> bool:
        """Whether both directions are open, and there is nothing to do but to wait for the peer.

        It may not know of `most` bytes that it was sent.
        """
        window, buffer = self.receive_window, self.send_buffer
        return (
            self.life is Life.OPEN
            and window.state is buffer.state is Direction.OPEN
            and window.consumed == window.received
            and buffer.retained <= most
        )

    # The clock.

    def wants_figures(self, now: float) -> bool:
        """Whether `tick` needs newer figures of the carrier."""
        live = self.liveness
        if now < live.link_expires:
            return False
        return live.quiet(now) or self.activity.report_due(self.send_buffer, now)

    def tick(self, now: float) -> bool:
        """Do the upkeep: late ACKs, liveness, unused windows. Returns whether more ticks are needed."""
        if self.life is not Life.OPEN:
            return False
        attached = self.attachment is not Attachment.DETACHED
        return self.activity.tick(now, self.liveness, self.writer, attached=attached)

    # For the stream.

    def attach(
        self, now: float, *, preface: bytes = b"", resumed: bool = False, announce: bool = False
    ) -> None:
        """Live on another stream, which begins with `preface`. The session must be open, or aborting.

        `resumed`: the session had a stream before, so the peer's frames begin with RECEIVED. `announce`: our
        frames do so, too.
        """
        self.detach()
        self.attachment = ATTACHMENT[self.attachment][Cause.RESUME if resumed else Cause.ATTACH]
        self._reader = FrameReader()
        self.trailing_data = None
        self._feeding = False
        self.liveness.begin(now)
        self.peer_stats = None
        self.writer.attach(preface, resumed=resumed, announce=announce)
        self.activity.attached(self.receive_window, now)

    def detach(self) -> None:
        """Give up the stream."""
        self.writer.done = True
        self.attachment = ATTACHMENT[self.attachment][Cause.DETACH]

    def stream_lost(self, error: LaneError | None) -> None:
        """The stream ended with `error`, or with a clean end if that is None, which is too early as well."""
        self.detach()
        code = aborted(error.code) if isinstance(error, Reset) else None
        if self.life is Life.ABORTING:
            if error is None or isinstance(error, Reset):
                self.abort_heard()  # a peer that hears of an abort ends the stream
        elif self.complete:  # all data has arrived
            if error is None:
                self._peer_ended()
        elif code is not None:
            self.fail(_reset(code))
        elif not self.resumable:
            self.fail(error or Closed("the stream ended in the middle of the session"))

    @property
    def control_due(self) -> bool:
        """Whether `data_to_send` has a control frame that should not wait for data."""
        return not self.writer.done and self.writer.control_due

    def receive_message(self, data: bytes | memoryview, now: float) -> Buffer | None:
        """Handle bytes from the stream if they are one message for a reader that has consumed all before it.

        This is the short way of what `receive_data` does with new data, alone or behind an ACK for more
        bytes and STATS. Returns the data, which are for `ReceiveWindow.pass_on`. None if the short way is
        not open: then nothing has changed.
        """
        message = self._reader.message(data)
        if message is None or self.over:
            return None
        offset, start, ack, stats = message
        buffer, window, live = self.send_buffer, self.receive_window, self.liveness
        if ack is not None and (not buffer.acked < ack[0] <= buffer.sent or self.writer.ahead is not None):
            return None
        if stats is not None and self._empty_frames.left(now, offset) < 1:
            return None
        fresh = data[start:]
        if offset != window.received or not window.receive_message(offset + len(fresh), now, live.rtt):
            return None
        if ack is not None:
            buffer.acknowledge(*ack)
        if stats is not None:
            self._empty_frames.count(now, offset)
            self.peer_stats = stats
        live.heard = self.activity.last_data = now
        live.moved()
        return fresh

    def receive_data(self, data: bytes | memoryview, now: float) -> Iterator[Event]:
        """Handle bytes from the stream. Raises ProtocolError, and aborts the session with it.

        If another stream is attached between two events, the rest of `data` is dropped.
        """
        if self.over:
            return
        reader, window, live = self._reader, self.receive_window, self.liveness
        live.heard = now
        received, final = window.received, window.final
        self._feeding = True
        try:
            for number, frame in enumerate(reader.each(data, TURN), 1):
                if type(frame) is Data:
                    fresh = window.receive(frame.offset, frame.data, now, live.rtt)
                    if not fresh:
                        self._note_empty(now)
                    elif window.idle:
                        event = DataReceived(fresh)
                        yield event
                        if event.taken:
                            window.consume_now(event.taken)
                            fresh = memoryview(fresh)[event.taken :]
                    if len(fresh):
                        window.hold(fresh)
                        if window.withhold(now, live.rtt):
                            self.activity.withheld()
                            self.writer.due |= ACK_DUE
                elif notice := self._receive(frame, now):
                    yield notice
                if number % TURN == 0:
                    yield Notice.PAUSE
                if self.over or self._reader is not reader or self.attachment is Attachment.DETACHED:
                    break  # it broke, another stream took over, or this one was lost
        except ProtocolError as error:
            if self.life is Life.OPEN:
                self.abort(0, error)
            else:
                self.fail(error)  # nothing may follow END, not even a RESET
            raise
        finally:
            if self._reader is reader:
                self._feeding = False
        if (window.received, window.final) != (received, final):
            self.activity.last_data = now
            live.moved()
            yield Notice.PROGRESS

    def _note_empty(self, now: float) -> None:
        """A frame said nothing. Raises ProtocolError if there were too many."""
        self._empty_frames.count(now, self.receive_window.received)

    def _receive(self, frame: Frame, now: float) -> Notice | None:
        """Handle a frame without data. Raises ProtocolError."""
        match frame:
            case Ack(consumed, window):
                if (consumed, consumed + window) == (self.send_buffer.acked, self.send_buffer.limit):
                    self._note_empty(now)
                self.send_buffer.acknowledge(consumed, window)
                return Notice.RESUMED if self.writer.heard() else Notice.CREDIT
            case Fin(final):
                self.receive_window.finish(final)
            case ResetFrame(code):
                self.fail(_reset(code))
            case End():
                if not self.complete:
                    raise ProtocolError("an end in the middle of the session")
                self.receive_window.end()
                self.trailing_data = self._reader.rest
            case Ping(value):
                self._note_empty(now)
                if value == MOVE:
                    return Notice.MOVE
                self.liveness.questioned()
                self.writer.pong = value
                self.writer.due |= PONG_DUE
                self.receive_window.request_ack()
            case Pong(value) if self.liveness.answered(value):
                self.activity.pong_received(self.receive_window)
                return Notice.RESUMED if self.writer.heard() else Notice.CREDIT
            case Stats():
                self._note_empty(now)
                self.peer_stats = frame
            case Received(offset):
                self.writer.resume(offset)
                self.attachment = ATTACHMENT[self.attachment][Cause.RECEIVED]
                return Notice.RESUMED
            case Pong():
                self._note_empty(now)
        return None


def _reset(code: int) -> Reset:
    """The error of a session that the peer has aborted with `code`."""
    ending = ending_of(code)
    return Reset(code) if ending is None else Reset(code, f"the server ended the session: {ending.text}")
