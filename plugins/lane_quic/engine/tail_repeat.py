"""Sending the ends of short answers twice on lossy paths.

Later packets reveal that a packet was lost. No packet follows the last ones of an answer, so their loss costs
a probe timeout, which is more than a round trip. On a path that loses every tenth packet, users notice that.
There the end of a burst is sent again after a short pause, unless it was acknowledged by then. Because of the
pause, one burst of losses rarely takes both copies. The cost is bounded: a few percent of the sent bytes, and
a small fixed rate for a connection that sends little.
"""

from collections.abc import Iterable
from typing import Any

from lane_quic.engine.connection_ids import ConnectionIds
from lane_quic.recovery.probe_timeout import LOSSY

EVIDENCE = 24
"""Packets that must be counted before the loss is known."""
TAIL = 6000
"""Bytes at the end of a burst that are repeated: four packets. Losses before them are noticed anyway."""
PAUSE = 0.003
"""The longest pause between the two copies, seconds. The pause is an eighth of a round trip."""
SHORTEST_PAUSE = 0.001
"""The shortest pause between the two copies, seconds."""
SHARE = 0.03
"""Repeated bytes, as a fraction of all bytes sent."""
TRICKLE = 131072.0
"""Bytes a second that may be repeated in addition, for connections that send little."""
TRICKLE_SHARE = 0.1
"""The largest `TRICKLE`, as a fraction of the path's rate."""
MOST_SAVED = 32768.0
"""The most bytes of repetition that may be saved up."""
SPAN = 128
"""Packet numbers over which arrivals are counted."""
_PACKET_COST = 48  # bytes of a packet beside its data


class Arrivals:
    """The loss of the peer's packets, from gaps in their numbers. A side that sends little learns it so."""

    def __init__(self) -> None:
        self.counted = 0
        self.loss = 0.0
        """Recent loss of the peer's packets, as a fraction (0 to 1)."""
        self._loss: float | None = None
        self._largest = self._counted_to = -1
        self._arrived = 0

    def count(self, low: int, stop: int) -> None:
        """Count the new packets `low` to `stop` - 1."""
        if not self.counted:
            self._largest = self._counted_to = low - 1  # earlier packets do not count as lost
        self.counted += stop - low
        if stop - self._counted_to <= SPAN:  # the span goes on
            self._arrived += stop - low
            if stop > self._largest:
                self._largest = stop - 1
            return
        while low < stop:  # no further than the end of a span
            end = stop if stop - low == 1 else min(stop, max(low, self._counted_to + SPAN) + 1)
            self._arrived += end - low
            self._largest = max(self._largest, end - 1)
            expected = self._largest - self._counted_to
            if expected >= SPAN:
                # Negative if packets were late for the last span. That evens out.
                lost = 1 - self._arrived / expected
                self._loss = lost if self._loss is None else (self._loss + lost) / 2
                self.loss = max(0.0, self._loss)
                self._counted_to, self._arrived = self._largest, 0
            low = end


class TailBudget:
    """The bytes that a connection may repeat now; times are in seconds."""

    def __init__(self) -> None:
        self._saved = MOST_SAVED
        self._at = 0.0

    def on_sent(self, size: int) -> None:
        """Note that `size` bytes were sent, with any content."""
        if self._saved < MOST_SAVED:
            self._saved = min(self._saved + SHARE * size, MOST_SAVED)

    def room(self, now: float, rate: float | None) -> bool:
        """Whether one tail may be repeated now. `rate` is the path's rate, bytes a second, if known."""
        trickle = TRICKLE if rate is None else min(TRICKLE, TRICKLE_SHARE * rate)
        self._saved = min(self._saved + (now - self._at) * trickle, MOST_SAVED)
        self._at = now
        return self._saved > 0

    def spend(self, size: int) -> None:
        """Note that `size` bytes of a tail are repeated."""
        self._saved -= size + _PACKET_COST


class TailRepeat(ConnectionIds):
    """A connection that sends the end of each burst twice while its path is lossy."""

    __slots__ = ("_tails", "_tails_at", "arrivals", "tail_budget")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.arrivals = Arrivals()
        self.tail_budget = TailBudget()
        self._tails_at: float | None = None  # when to repeat tails
        self._tails: dict[int, Any] = {}  # streams that may have a tail

    def get_timer(self) -> float | None:
        """The time at which `handle_timer` or `datagrams_to_send` must be called; None for never."""
        at = super().get_timer()
        return at if self._tails_at is None else min(self._tails_at, at or self._tails_at)

    @property
    def lossy(self) -> bool:
        """Whether tails are repeated: the path is lossy in one direction, or its loss is not known yet."""
        loss, came = self.loss, self.arrivals
        if loss.counted < EVIDENCE or came.counted < EVIDENCE:
            return True
        return loss.recent_loss >= LOSSY or came.loss >= LOSSY

    def note_tails(self, busy: Iterable[Any], now: float) -> None:
        """See `FastPathConnection`."""
        if self.lossy and (tails := {s.stream_id: s for s in busy if s.sender.has_fresh_tail}):
            self._tails |= tails
            pause = min(PAUSE, max(self.loss.rtt or 0.0, SHORTEST_PAUSE * 8) / 8)
            self._tails_at = now + pause if self._tails_at is None else self._tails_at

    def _repeat_tails(self, now: float) -> None:
        """Queue the tails again if it is time to."""
        if self._tails_at is None or now < self._tails_at:
            return
        self._tails_at = None
        for stream in self._tails.values():
            sender: Any = stream.sender
            if sender.has_fresh_tail and self.tail_budget.room(now, self.loss.pacer.rate):
                self.tail_budget.spend(sender.repeat(TAIL))
        self._tails.clear()
