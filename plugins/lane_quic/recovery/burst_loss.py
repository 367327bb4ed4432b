"""Bursts that are too long for a queue: their ends are lost, and their beginnings arrive.

The pacer sends several packets together, since each wake-up costs as much as some packets. A queue of a few
packets does not hold them, although it would hold the same packets one by one. A line loses the packets of a
burst alike, and a queue that another flow fills overflows now and then only. So if a percent is lost,
round trip after round trip, and most of them are from the second halves of bursts, shorter bursts lose less.
"""

from typing import Any

LOSSES = 64
"""Losses that are judged together."""
SPAN = 6400
"""Packets in which these must have been lost: one percent."""
ROUND_LOSSES = 8
"""Losses of one round trip that count, at most: a queue that overflows once shows little."""
SHARE = 0.8
"""Fraction in second halves that losses of a line do not reach by chance."""


class BurstLoss:
    """The lost packets of one connection, by their places in the bursts that they were sent in."""

    __slots__ = ("_first", "_of_round", "_round_at", "_second", "_seen")

    def __init__(self) -> None:
        self._seen = self._second = 0  # losses, and those in second halves
        self._first = 0  # the number of the first one
        self._of_round, self._round_at = 0, 0.0

    def note(self, lost: list[Any], now: float, rtt: float) -> bool:
        """Note packets that were lost. Return whether they show that bursts are too long.

        The last item of a packet's `sent_state` is the number in the middle of its burst, or None. Times are
        seconds.
        """
        if now - self._round_at > rtt:
            self._of_round, self._round_at = 0, now
        for packet in lost:
            number, middle = packet.packet_number, packet.sent_state[-1]
            if middle is None or number == middle or self._of_round >= ROUND_LOSSES:
                continue
            if not self._seen or number - self._first > SPAN:
                self._first, self._seen, self._second = number, 0, 0
            self._of_round += 1
            self._seen += 1
            self._second += number > middle
        if self._seen < LOSSES:
            return False
        second = self._second >= SHARE * self._seen
        self._seen = 0
        return second
