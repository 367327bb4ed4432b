"""The ends of short answers go twice over lossy paths.

A lost packet is noticed by those behind it. The last ones of an answer have none behind them: their loss
costs a probe timeout, more than a round trip, and on a path that loses every tenth packet that is what
people wait for. So there, what ends a burst is sent again a little later, unless it was acknowledged by
then. The pause keeps both copies out of one burst of losses. What that may cost is bounded: a few percent
of what the connection sends, and a trickle for one that sends little, whose own traffic is as small.
"""

from collections.abc import Iterable
from typing import Any

from lane_quic.engine.connection_ids import ConnectionIds

LOSSY = 0.015
"""Fraction of packets lost from which on tails are repeated."""
EVIDENCE = 24
"""Packets that must have been counted before loss is believed."""
TAIL = 6000
"""Bytes at the end of a burst that are worth it: four packets. A longer burst notices its own losses."""
PAUSE, SHORTEST_PAUSE = 0.003, 0.001
"""Seconds between the copies: an eighth of the round trip, within these."""
SHARE = 0.03
"""Of all bytes sent, so much may be repetition,"""
TRICKLE, TRICKLE_SHARE = 131072.0, 0.1
"""and so many bytes a second more, for those that send little; of a slow path no more than that share."""
MOST_SAVED = 32768.0
SPAN = 128
"""Packet numbers over which arrivals are counted."""
_PACKET_COST = 48  # what a packet has beside data


class Arrivals:
    """How many of the peer's packets arrive, by their numbers: who sends little learns of loss from there."""

    def __init__(self) -> None:
        self.counted = 0
        self._loss: float | None = None
        self._largest = self._counted_to = -1
        self._arrived = 0

    @property
    def loss(self) -> float:
        """Fraction (0 to 1) of the peer's packets that were lost lately."""
        return max(0.0, self._loss or 0.0)

    def count(self, low: int, stop: int) -> None:
        """Packets `low` to `stop` - 1 came, for the first time."""
        if not self.counted:
            self._largest = self._counted_to = low - 1  # earlier ones were not counted, and are not missed
        self.counted += stop - low
        while low < stop:
            end = min(stop, max(low, self._counted_to + SPAN) + 1)  # where a span is complete, or before
            self._arrived += end - low
            self._largest = max(self._largest, end - 1)
            expected = self._largest - self._counted_to
            if expected >= SPAN:
                # Negative if packets came that were late for the last span: that evens out.
                lost = 1 - self._arrived / expected
                self._loss = lost if self._loss is None else (self._loss + lost) / 2
                self._counted_to, self._arrived = self._largest, 0
            low = end


class TailBudget:
    """Bytes of repetition that a connection may send now; times in seconds."""

    def __init__(self) -> None:
        self._saved = MOST_SAVED
        self._at = 0.0

    def on_sent(self, size: int) -> None:
        """`size` bytes were sent, of whatever."""
        self._saved = min(self._saved + SHARE * size, MOST_SAVED)

    def room(self, now: float, rate: float | None) -> bool:
        """Whether one tail may be repeated now; `rate`: bytes a second that the path takes, if known."""
        trickle = TRICKLE if rate is None else min(TRICKLE, TRICKLE_SHARE * rate)
        self._saved = min(self._saved + (now - self._at) * trickle, MOST_SAVED)
        self._at = now
        return self._saved > 0

    def spend(self, size: int) -> None:
        """`size` bytes of a tail are repeated."""
        self._saved -= size + _PACKET_COST


class TailRepeat(ConnectionIds):
    """A connection that sends the ends of bursts twice while its path is lossy."""

    __slots__ = ("_tails", "_tails_at", "arrivals", "tail_budget")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.arrivals = Arrivals()
        self.tail_budget = TailBudget()
        self._tails_at: float | None = None  # when tails are repeated
        self._tails: dict[int, Any] = {}  # streams that may have one

    def get_timer(self) -> float | None:
        """When `handle_timer` or `datagrams_to_send` has something to do; None for never."""
        at = super().get_timer()
        return at if self._tails_at is None else min(self._tails_at, at or self._tails_at)

    @property
    def lossy(self) -> bool:
        """Whether the path loses so much that tails are repeated, either way; or is too new to tell."""
        loss, came = self.loss, self.arrivals
        if min(loss.counted, came.counted) < EVIDENCE:
            return True
        return max(loss.recent_loss, came.loss) >= LOSSY

    def _note_tails(self, busy: Iterable[Any], now: float) -> None:
        """Streams that were `busy` have been served: some may have sent their end."""
        if self.lossy and (tails := {s.stream_id: s for s in busy if s.sender.has_fresh_tail}):
            self._tails |= tails
            pause = min(PAUSE, max(self.loss.rtt or 0.0, SHORTEST_PAUSE * 8) / 8)
            self._tails_at = now + pause if self._tails_at is None else self._tails_at

    def _repeat_tails(self, now: float) -> None:
        """If it is time for that: put them back into the queues of their streams."""
        if self._tails_at is None or now < self._tails_at:
            return
        self._tails_at = None
        for stream in self._tails.values():
            sender: Any = stream.sender
            if sender.has_fresh_tail and self.tail_budget.room(now, self.loss.pacer.rate):
                self.tail_budget.spend(sender.repeat(TAIL))
        self._tails.clear()
