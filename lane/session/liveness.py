"""Whether the path of a session works, and its round trip: when to send a PING, and what a PONG means.

A session that only receives can't see in another way that its path died: its transport sends nothing whose
loss it would notice. So an active session that hears nothing sends a PING. The pause between PINGs doubles
with each PONG, up to a limit, until data move again.
"""

from typing import Any

from lane.stream import LinkStats

QUIET = 0.25
"""Seconds of silence, at least, after which an active session sends a PING."""
RTT_AGE = 0.25
"""Seconds for which the carrier's figures count. Reading them may cost a system call."""
MOST_PATIENCE = 16
"""The limit of the pause between two PINGs, in units of QUIET."""
UNKNOWN_RTT = 0.1
"""Seconds that are assumed until a round trip was measured."""
_NO_FIGURES = LinkStats()
_FIGURES = "rtt", "loss", "sent", "lost", "delivered", "in_flight"


class Liveness:
    """The liveness of one session on any carrier. Times are seconds of one monotonic clock."""

    __slots__ = (
        "_asked", "_measured", "_patience", "heard", "link", "link_expires", "rtt",
    )  # fmt: skip

    _FROZEN = "heard", "_asked", "_patience", "_measured", "rtt", "link_expires"

    def __init__(self, now: float) -> None:
        self.begin(now)

    def begin(self, now: float) -> None:
        """Start on another path: no PING is outstanding, and nothing is known of the path."""
        self.heard = now
        """When bytes were received last."""
        self.link = _NO_FIGURES
        """The carrier's newest figures."""
        self.link_expires = now
        """From when on the figures are too old to be used."""
        self.rtt = UNKNOWN_RTT
        """The round trip in seconds, measured by the carrier, or by the session's PINGs."""
        self._asked: int | None = None  # the value of the PING that is outstanding: when, in microseconds
        self._patience = 1
        self._measured: float | None = None  # round trip of a PING

    def freeze(self) -> dict[str, Any]:
        """The state as a plain value, without what a transport reports of its own in `LinkStats.more`."""
        link = {name: getattr(self.link, name) for name in _FIGURES}
        return {name: getattr(self, name) for name in self._FROZEN} | {"link": link}

    @classmethod
    def thaw(cls, frozen: dict[str, Any]) -> "Liveness":
        """A liveness that goes on from there."""
        liveness = cls(frozen["heard"])
        for name in cls._FROZEN:
            setattr(liveness, name, frozen[name])
        liveness.link = LinkStats(**frozen["link"])
        return liveness

    def measured(self, link: LinkStats, now: float) -> None:
        """Take newer figures of the carrier."""
        self.link = link
        self.rtt = link.rtt or self._measured or UNKNOWN_RTT
        self.link_expires = now + RTT_AGE

    @property
    def asked(self) -> bool:
        """Whether a PING is outstanding."""
        return self._asked is not None

    def quiet(self, now: float) -> bool:
        """Whether the silence is long enough for a PING, on a path with a short round trip."""
        return self._asked is None and now - self.heard > QUIET * self._patience

    def silent(self, now: float) -> bool:
        """Whether it is time for a PING."""
        return self.quiet(now) and now - self.heard > 3 * self.rtt * self._patience

    def silence(self, now: float) -> float:
        """Seconds without any byte since a PING was sent; 0 if no PING is outstanding."""
        return 0.0 if self._asked is None else max(0.0, now - max(self.heard, self._asked / 1e6))

    def waiting(self, now: float) -> float:
        """Seconds since the outstanding PING, whatever else came; 0 if there is none."""
        return 0.0 if self._asked is None else now - self._asked / 1e6

    def ask(self, now: float) -> int:
        """Returns the value of a PING that is sent now."""
        self._asked = int(now * 1e6)
        return self._asked

    def forget_ping(self) -> None:
        """Ignore the PONG of the outstanding PING: it says nothing about what is sent from now on."""
        self._asked = None

    def questioned(self) -> None:
        """The peer sent a PING. The path works in that direction, and one side's PINGs are enough."""
        self._be_patient()

    def answered(self, value: int) -> bool:
        """Take a PONG. Returns whether it answers the outstanding PING."""
        if value != self._asked:
            return False
        self._asked = None
        self._be_patient()
        self._measured = self.heard - value / 1e6
        if not self.link.rtt:
            self.rtt = self._measured or UNKNOWN_RTT
        return True

    def moved(self) -> None:
        """Data moved in either direction."""
        self._patience = 1

    def _be_patient(self) -> None:
        self._patience = min(2 * self._patience, MOST_PATIENCE)
