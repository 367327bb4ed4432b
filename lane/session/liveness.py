"""Whether the path of a session lives, and how long it takes: when to ask, and what an answer tells.

A session that only receives has no other way to see that the path died, and its transport nothing whose
loss it would notice: so who was active and hears nothing asks. A path that answers is asked more and more
seldom, up to a limit, until data move again.
"""

from collections.abc import Callable
from time import monotonic

from lane.stream import LinkStats

QUIET = 0.25
"""Seconds of silence, at least, in an active session before it asks whether the path is alive."""
RTT_AGE = 0.05
"""Seconds that a look at the carrier's round trip counts: it may cost a system call."""
MOST_PATIENCE = 16
"""Times QUIET after which a path that always answers is asked at the latest."""
UNKNOWN_RTT = 0.1
"""Seconds assumed until a round trip has been measured."""


class Liveness:
    """Of one session, whatever carries it."""

    def __init__(self, stats: Callable[[], LinkStats] = LinkStats) -> None:
        self.begin(stats)

    def begin(self, stats: Callable[[], LinkStats]) -> None:
        """There is another path, on which nothing was asked; `stats` looks up what its carrier knows."""
        self.heard = monotonic()
        """When something came last."""
        self.stats = stats
        self._asked: int | None = None  # the value of the PING that is outstanding: when, in microseconds
        self._patience = 1
        self._measured: float | None = None
        self._rtt = UNKNOWN_RTT
        self._look_again = 0.0

    def rtt(self) -> float:
        """The round trip, seconds: the carrier's, or the session's own."""
        now = monotonic()
        if now >= self._look_again:
            self._rtt = self.stats().rtt or self._measured or UNKNOWN_RTT
            self._look_again = now + RTT_AGE
        return self._rtt

    @property
    def asked(self) -> bool:
        """Whether a PING has no answer yet."""
        return self._asked is not None

    def silent(self, now: float) -> bool:
        """Whether it is time to ask."""
        quiet = (now - self.heard) / self._patience
        return quiet > QUIET and not self.asked and quiet > 3 * self.rtt()

    def silence(self, now: float) -> float:
        """Seconds that nothing came although a PING asked for it; 0 where all is well."""
        return 0.0 if self._asked is None else max(0.0, now - max(self.heard, self._asked / 1e6))

    def waiting(self, now: float) -> float:
        """Seconds that a PING has had no answer, whatever else came; 0 where none is due."""
        return 0.0 if self._asked is None else now - self._asked / 1e6

    def ask(self) -> int:
        """The value of the PING that is being sent."""
        self._asked = int(monotonic() * 1e6)
        return self._asked

    def questioned(self) -> None:
        """The peer asks: the path works that way, and one of both is enough to find out about the other."""
        self._be_patient()

    def answered(self, value: int) -> bool:
        """A PONG came; whether it answers the PING that is outstanding."""
        if value != self._asked:
            return False
        self._asked = None
        self._be_patient()
        self._measured = self.heard - value / 1e6
        return True

    def moved(self) -> None:
        """Data came, or went, to which an answer is due."""
        self._patience = 1

    def _be_patient(self) -> None:
        self._patience = min(2 * self._patience, MOST_PATIENCE)
