"""Which lanes did worse lately and are not tried again yet: what path_selection.py keeps of its trials.

A trial costs some seconds on a lane that may be bad. So the same trial comes more and more seldom, but at
once when the network is another one: then what was learned counts no more.
"""

from dataclasses import dataclass

BACKOFF = 30.0
"""Seconds until a trial that failed is tried again; doubled each time it fails."""
BACKOFF_MOST = 600.0
"""Seconds at most."""
LOSS = 0.007
"""Loss that counts as such."""
WORSE_LOSS = 3.0
"""So many times the loss of before are another network..."""
WORSE_GOODPUT = 0.5
"""...and so is less than this part of the goodput of before."""


@dataclass(frozen=True, slots=True)
class TrialBackoff:
    """That lane `lane` did worse than another one, which had this loss and goodput (bytes a second)."""

    lane: str
    until: float
    wait: float
    loss: float
    goodput: float

    def changed(self, loss: float, goodput: float | None, *, quiet: bool) -> bool:
        """Whether these are clearly other conditions. No goodput: not known; `quiet`: no loss for long."""
        worse = loss > WORSE_LOSS * max(self.loss, LOSS)
        less = goodput is not None and goodput < WORSE_GOODPUT * self.goodput
        return worse or less or (quiet and self.loss >= LOSS)


@dataclass(frozen=True, slots=True)
class TrialBackoffs:
    """One for each lane at most. Methods give a new object. Times are seconds of one clock."""

    entries: tuple[TrialBackoff, ...] = ()

    def of(self, lane: str) -> TrialBackoff | None:
        return next((entry for entry in self.entries if entry.lane == lane), None)

    def without(self, lane: str) -> "TrialBackoffs":
        return TrialBackoffs(tuple(entry for entry in self.entries if entry.lane != lane))

    def add(self, lane: str, now: float, wait: float, loss: float, goodput: float) -> "TrialBackoffs":
        """`lane` is not tried for `wait` seconds."""
        return TrialBackoffs(
            (*self.without(lane).entries, TrialBackoff(lane, now + wait, wait, loss, goodput))
        )

    def failed(self, lane: str, now: float, loss: float, goodput: float) -> "TrialBackoffs":
        """A trial of `lane` failed: twice as long as the last time."""
        old = self.of(lane)
        wait = BACKOFF if old is None or now > old.until + BACKOFF_MOST else min(BACKOFF_MOST, 2 * old.wait)
        return self.add(lane, now, wait, loss, goodput)
