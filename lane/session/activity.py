"""When a session counts as active, and its upkeep as time passes.

An active session gets a tick eight times a second. The tick sends late ACKs, a PING after silence, and STATS
to a peer that wants them. An idle session gives up a window that had grown.
"""

from math import inf
from typing import Any

from lane.session.frame_writer import ACK_DUE, PING_DUE, STATS_DUE, FrameWriter
from lane.session.liveness import Liveness
from lane.session.receive_window import ReceiveWindow
from lane.session.send_buffer import SendBuffer

ACTIVE = 3.0
"""Seconds after its last data that a session counts as active."""
AWAKE = 1.0
"""Seconds after its last data for which a session is sure to get ticks."""
IDLE = 10.0
"""Seconds after its last data that a session gives up a window that had grown."""
REPORT = 0.25
"""Seconds between two STATS of a session that sends."""
REPORT_FEW = 1.0
"""The same for one that has sent only few bytes since, as datagrams: they measure no loss, and STATS would
cost as much as they do. Beside data of the stream STATS cost little."""
FEW = 4096
"""Bytes for which an ACK waits for data to travel with, as in an exchange of messages. The peer measures its
goodput by the ACKs for more. A window that runs short does not wait for them."""
ACK_LATE = 1.0
"""Seconds after the last data until the peer learns also of these few bytes, which it retains."""
RECENT = 1.0
"""Seconds for which a datagram counts as in flight. Nobody acknowledges it to us."""


class Activity:
    """The activity of one session, from `now` on. `reports`: whether its peer wants STATS."""

    __slots__ = (
        "_attached", "_datagram_sent", "_reported", "_reported_out", "_shrinking", "datagrams_in",
        "datagrams_out", "last_data", "reports",
    )  # fmt: skip

    _FROZEN = (
        "reports",
        "last_data",
        "datagrams_in",
        "datagrams_out",
        "_attached",
        "_datagram_sent",
        "_reported",
        "_shrinking",
    )

    def __init__(self, now: float) -> None:
        self.reports = False
        self.last_data = now
        """When data moved last."""
        self.datagrams_in = self.datagrams_out = 0
        """Bytes that were received and sent as datagrams, outside the streams."""
        self._attached = -inf  # when the present stream was attached
        self._datagram_sent = -inf  # when the last one was
        self._reported = 0.0  # when STATS were sent last
        self._reported_out = 0  # `datagrams_out` then
        self._shrinking = False  # the peer may not know yet that the window shrank

    def freeze(self) -> dict[str, Any]:
        """The whole state as a plain value."""
        return {name: getattr(self, name) for name in self._FROZEN}

    @classmethod
    def thaw(cls, frozen: dict[str, Any]) -> "Activity":
        """An activity that goes on from there."""
        activity = cls(0.0)
        for name in cls._FROZEN:
            setattr(activity, name, frozen[name])
        return activity

    def note_datagram(self, size: int, now: float, liveness: Liveness, *, received: bool) -> None:
        """Count a datagram of `size` bytes."""
        self.last_data = now
        liveness.moved()
        if received:
            self.datagrams_in += size
            liveness.heard = now
        else:
            self.datagrams_out += size
            self._datagram_sent = now

    def is_sending(self, buffer: SendBuffer, now: float) -> bool:
        """Whether bytes are in flight, so that losses say something about the carrier."""
        return bool(buffer.retained) or now - self._datagram_sent < RECENT

    def report_due(self, buffer: SendBuffer, now: float) -> bool:
        """Whether STATS are due."""
        if not self.reports or now - self._reported < REPORT or now - self.last_data >= ACTIVE:
            return False
        few = not buffer.retained and self.datagrams_out - self._reported_out < FEW
        if few and now - self._reported < REPORT_FEW:
            return False
        return self.is_sending(buffer, now)

    def attached(self, window: ReceiveWindow, now: float) -> None:
        """Another stream carries the session.

        The peer may send bytes again on it that it sent before it knew of a smaller window, and no PONG says
        when they are through. So a window that has just shrunk is restored.
        """
        self._attached = now
        if self._shrinking:
            self._shrinking = False
            window.restore()

    def pong_received(self, window: ReceiveWindow) -> None:
        """The peer has acted on all frames before the PING."""
        if self._shrinking:
            self._shrinking = False
            window.shrunk()

    def withheld(self) -> None:
        """The window fell again, after it had grown. The peer may use what it had before.

        So a PONG that is still due tells nothing: what it had may have come after the PING.
        """
        self._shrinking = False

    def tick(self, now: float, liveness: Liveness, writer: FrameWriter, *, attached: bool) -> bool:
        """Do the upkeep. `attached`: a stream carries the session. Returns whether more ticks are needed."""
        window, buffer = writer.window, writer.buffer
        age, settled = now - self.last_data, now - self._attached
        if (fresh := window.unacknowledged) and (fresh > FEW or age > ACK_LATE):
            writer.due |= ACK_DUE
        waits = bool(buffer.retained) and settled < ACTIVE  # sent again, and the stream may have died since
        if (age < ACTIVE or waits) and liveness.silent(now):
            writer.due |= PING_DUE
        if min(age, settled) > IDLE and attached and not self._shrinking and window.shrink():
            writer.due |= ACK_DUE | PING_DUE
            liveness.forget_ping()  # the peer answered that one before it knew of the smaller window
            self._shrinking = True
        if self.report_due(buffer, now):
            self._reported, self._reported_out = now, self.datagrams_out
            writer.due |= STATS_DUE
        return age < ACTIVE or waits or self._shrinking or window.window > window.initial
