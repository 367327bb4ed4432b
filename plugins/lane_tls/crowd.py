"""What a crowd of transfers over one path may send together, when each has a TCP connection of its own.

No connection has fewer than a few packets under way. So with a hundred of them, the queue of a slow line
overflows all the time, whatever each of them does: some lose the same packet again and again, and stand still
for seconds. But whoever sends all of them can find the rate of the path, as one connection would, and give an
equal part of it to each. Each is paced then, and little is lost.

This is that search, without I/O and without a clock. In the beginning the rate multiplies while more and more
arrives. Later it rises, slowly at first, until more is lost than usual. Then what arrived of late is what the
path takes. Round trips say little here: with a few packets a second, most of each is the wait of a
receiver that acknowledges every other packet.
"""

from collections import deque

LATELY = 4
"""Looks, the best of which has the rate of the path."""
LONG = 24
"""Looks, the best of which has the loss of the line itself."""
LOSSY = 0.02
"""Fraction (0 to 1) of the bytes that may be lost beside twice the loss of the line itself."""
DRAIN = 0.95
"""Of the rate of the path, what is sent after a loss."""
QUICK, CAREFUL, GROWTH = 4.0, 2.0, 1.25
"""By what the rate changes in the beginning, without and with losses, as long as arrivals grow so much."""
PATIENCE = 3
"""Looks without growth after which the beginning is over, also without a loss."""
SLOW, FAST, FASTER = 0.02, 0.25, 1.2
"""By which part of itself the rate rises at first and at last, and by what that part grows at each look."""


class Crowd:
    """The rate of a crowd, which begins with `rate`, bytes a second."""

    def __init__(self, rate: float) -> None:
        self.rate = self._first = rate
        """Bytes a second that all may send together."""
        self.finding = True
        """Whether this is the beginning, in which the rate of the path is not known."""
        self.full = False
        """Whether the path took no more at the last look."""
        self._arrivals: deque[float] = deque(maxlen=LATELY)
        self._losses: deque[float] = deque(maxlen=LONG)
        self._rise = SLOW
        self._best = 0.0
        self._same = 0  # looks without growth

    def look(self, arrived: int, lost: int, seconds: float) -> None:
        """Take the bytes that arrived and were lost in so many seconds.

        A path on which nothing arrives is cut off. What is lost then says nothing about its rate.
        """
        if not arrived:
            return
        loss = lost / (arrived + lost)
        self._arrivals.append(arrived / seconds)
        self._losses.append(loss)
        self.full = loss > LOSSY + 2 * min(self._losses)
        lossy = loss > LOSSY
        if self.finding and self._grows(arrived / seconds, lossy):
            self.rate = max((CAREFUL if lossy else QUICK) * self._best, self._first)
        elif self.finding or self.full:
            self.finding, self._rise = False, SLOW
            self.rate = DRAIN * max(self._best, *self._arrivals)
            self._best = 0.0
        else:
            self.rate *= 1 + self._rise
            self._rise = min(FASTER * self._rise, FAST)

    def _grows(self, rate: float, lossy: bool) -> bool:
        """Whether more than ever arrived, or there is hope for more."""
        if rate > GROWTH * self._best:
            self._best, self._same = rate, 0
            return True
        self._same += 1
        return not lossy and self._same < PATIENCE
