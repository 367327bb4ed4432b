"""A queue that stands: pacing yields to it until it has drained.

BBR's bandwidth is the largest of many noisy rates, so it is a little too large, and the excess stays in the
queue. Whoever shares the path waits behind it. So after a round trip in which even the smallest sample shows
a queue, pacing is cut by so much that the queue drains soon. The less stands there, the smaller is the cut.
"""

STANDING = (1.06, 0.002)
"""A queue stands if all round trips of a round are above this factor of the smallest, plus seconds."""
SHORT_QUEUE = 0.0005
"""Seconds of a queue that may stay: timers are hardly finer."""
DRAIN_ROUNDS, DRAIN_TIME = 2.0, 0.1
"""The queue drains in so many round trips, or seconds if these are more."""
MOST_YIELD = 0.91
"""The lowest pacing, as a factor. Below 0.8 the probes (1.25) gain nothing against a competitor, and a flow
beside Cubic starves."""
STEADY_ROUNDS = 3
"""Rounds that are alike if the path is long. A queue, ours or that of others, grows or shrinks meanwhile."""


class StandingQueue:
    """The queue of one path, from the smallest round trip of each round."""

    def __init__(self) -> None:
        self.rounds = 0
        """Rounds in a row in which it stood."""
        self.pacing = 1.0
        """Pacing, as a factor, with which it drains."""
        self._lows: list[float] = []  # the smallest round trips of the last rounds

    def end_round(self, low: float, min_rtt: float, ours: float = 1.0) -> None:
        """Note that a round ended. `low`: its smallest round trip; `min_rtt`: that of all, seconds.

        `ours`: the part of the queue that counts as ours, see both_ways.py.
        """
        excess = ours * (low - min_rtt - SHORT_QUEUE)
        self.pacing = min(max(1.0 - excess / max(DRAIN_ROUNDS * min_rtt, DRAIN_TIME), MOST_YIELD), 1.0)
        self.rounds = self.rounds + 1 if stands(low, min_rtt) else 0
        self._lows.append(low)
        del self._lows[:-STEADY_ROUNDS]

    def was_none(self, rtt: float) -> bool:
        """Whether the path is long instead. `rtt`: the smallest one since, with less in flight."""
        lows = [*self._lows, rtt]
        return len(lows) > STEADY_ROUNDS and not stands(max(lows), min(lows))


def stands(low: float, min_rtt: float) -> bool:
    """Whether a queue stood in a round with the smallest round trip `low`. `min_rtt`: the smallest of all."""
    factor, seconds = STANDING
    return low > factor * min_rtt + seconds
