"""Whether the path of a session lives, and how long it takes: when to ask, and what an answer tells.

A session that only receives has no other way to see that its path died, and its transport has nothing whose
loss it would notice. So a session that was active and hears nothing sends a PING. A path that answers is
asked more and more seldom, up to a limit, until data move again.
"""

from typing import Any

from lane.stream import LinkStats

QUIET = 0.25
"""Seconds of silence, at least, in an active session before it asks whether the path is alive."""
RTT_AGE = 0.05
"""Seconds that a look at the carrier's round trip counts: it may cost a system call."""
MOST_PATIENCE = 16
"""Times QUIET after which a path that always answers is asked at the latest."""
UNKNOWN_RTT = 0.1
"""Seconds assumed until a round trip has been measured."""
_NO_FIGURES = LinkStats()


class Liveness:
    """Of one session, whatever carries it. Times are seconds of one clock that never goes back."""

    _FROZEN = "heard", "_asked", "_patience", "_measured"

    def __init__(self, now: float) -> None:
        self.begin(now)

    def begin(self, now: float) -> None:
        """There is another path, on which nothing was asked, and of which nothing is known."""
        self.heard = now
        """When something came last."""
        self.link = _NO_FIGURES
        """What the carrier knew when it was looked at last."""
        self.link_expires = now
        """When the carrier is to be looked at again, if its figures matter then."""
        self.rtt = UNKNOWN_RTT
        """The round trip, seconds: the carrier's, or the session's own."""
        self._asked: int | None = None  # the value of the PING that is outstanding: when, in microseconds
        self._patience = 1
        self._measured: float | None = None  # round trip of a PING

    def freeze(self) -> dict[str, Any]:
        """The state as a plain value. Whoever thaws it looks at the carrier before figures matter."""
        return {name: getattr(self, name) for name in self._FROZEN} | {"rtt": self.rtt}

    @classmethod
    def thaw(cls, frozen: dict[str, Any]) -> "Liveness":
        """One that goes on from there."""
        liveness = cls(frozen["heard"])
        for name in (*cls._FROZEN, "rtt"):
            setattr(liveness, name, frozen[name])
        return liveness

    def measured(self, link: LinkStats, now: float) -> None:
        """The carrier was looked at."""
        self.link = link
        self.rtt = link.rtt or self._measured or UNKNOWN_RTT
        self.link_expires = now + RTT_AGE

    @property
    def asked(self) -> bool:
        """Whether a PING has no answer yet."""
        return self._asked is not None

    def quiet(self, now: float) -> bool:
        """Whether nothing came for so long that it is time to ask, unless the round trip is as long."""
        return self._asked is None and now - self.heard > QUIET * self._patience

    def silent(self, now: float) -> bool:
        """Whether it is time to ask."""
        return self.quiet(now) and now - self.heard > 3 * self.rtt * self._patience

    def silence(self, now: float) -> float:
        """Seconds that nothing came although a PING asked for it; 0 where all is well."""
        return 0.0 if self._asked is None else max(0.0, now - max(self.heard, self._asked / 1e6))

    def waiting(self, now: float) -> float:
        """Seconds that a PING has had no answer, whatever else came; 0 where none is due."""
        return 0.0 if self._asked is None else now - self._asked / 1e6

    def ask(self, now: float) -> int:
        """The value of the PING that is being sent."""
        self._asked = int(now * 1e6)
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
        if not self.link.rtt:
            self.rtt = self._measured or UNKNOWN_RTT
        return True

    def moved(self) -> None:
        """Data came, or went, to which an answer is due."""
        self._patience = 1

    def _be_patient(self) -> None:
        self._patience = min(2 * self._patience, MOST_PATIENCE)
