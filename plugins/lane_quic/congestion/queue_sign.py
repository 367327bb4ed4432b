"""The first sign of a queue, at which BBR's start ends: recent round trips are all above the smallest one.

The start grows so fast that it can't wait for the bandwidth to stay the same. But a path with jitter has long
round trips without a queue, as radio links do: where no packet overtakes another one, the dense packets of a
bulk transfer all wait for the latest, and only those of a quiet time show the smallest round trip. So the
sign must also exceed what round trips varied by while we sent too little to cause a queue. It is their
median that counts: some of them may be long because a machine was busy.
"""

RECENT = 8
"""Newest round trips that are compared."""
SIGN = (1.125, 0.003)
"""All of them are above this factor of the smallest, plus seconds."""
JITTER = 3.0
"""They exceed the smallest by this multiple of what the median of a quiet time did."""
QUIET = 16
"""Round trips of a quiet time that are remembered."""


class QueueSign:
    """The newest round trips of one path, seconds."""

    __slots__ = ("_quiet", "recent")

    def __init__(self) -> None:
        self.recent: list[float] = []  # an empty deque would take 760 bytes
        self._quiet: list[float] = []

    def take(self, rtt: float) -> None:
        """Note a round trip."""
        self.recent.append(rtt)
        if len(self.recent) > RECENT:
            del self.recent[0]

    def take_quiet(self, rtt: float) -> None:
        """Note that a round trip was measured with few packets in flight."""
        self._quiet.append(rtt)
        if len(self._quiet) > QUIET:
            del self._quiet[0]

    def shows(self, min_rtt: float) -> bool:
        """Whether there is a queue, if `min_rtt` is the smallest round trip."""
        factor, seconds = SIGN
        quiet = sorted(self._quiet) or [min_rtt]
        usual = quiet[(len(quiet) - 1) // 2]
        most = max(factor * min_rtt + seconds, min_rtt + JITTER * (usual - min_rtt))
        return len(self.recent) == RECENT and min(self.recent) > most
