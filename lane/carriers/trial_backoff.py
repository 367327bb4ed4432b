"""The lanes that did worse lately and are not tried again yet: the results of path_selection.py's trials.

A trial costs some seconds on a lane that may be bad. So the same trial is repeated at growing intervals. If
the network has changed, the old result no longer counts, and the trial may be repeated at once.
"""

from dataclasses import dataclass

BACKOFF = 30.0
"""Seconds before a failed trial is repeated. They double each time it fails."""
BACKOFF_MOST = 600.0
"""Upper limit of the backoff, in seconds."""
LOSS = 0.007
"""Fraction of lost packets from which a trial's result is put down to loss."""
WORSE_LOSS = 3.0
"""The network has changed if the loss exceeds the earlier loss by this factor."""
WORSE_GOODPUT = 0.5
"""The network has changed if the goodput is below this fraction of the earlier goodput."""


@dataclass(frozen=True, slots=True)
class TrialBackoff:
    """A record that `lane` did worse than another lane. It is not tried again before the time `until`."""

    lane: str
    until: float
    wait: float  # seconds
    loss: float  # of the other lane
    goodput: float  # of the other lane, bytes per second

    def changed(self, loss: float, goodput: float | None, *, quiet: bool) -> bool:
        """Whether the network has changed. `goodput`: None if not known. `quiet`: no loss for long."""
        worse = loss > WORSE_LOSS * max(self.loss, LOSS)
        less = goodput is not None and goodput < WORSE_GOODPUT * self.goodput
        return worse or less or (quiet and self.loss >= LOSS)


@dataclass(frozen=True, slots=True)
class TrialBackoffs:
    """At most one record for each lane. Methods return a new object. Times are seconds of one clock."""

    entries: tuple[TrialBackoff, ...] = ()

    def of(self, lane: str) -> TrialBackoff | None:
        return next((entry for entry in self.entries if entry.lane == lane), None)

    def without(self, lane: str) -> "TrialBackoffs":
        return TrialBackoffs(tuple(entry for entry in self.entries if entry.lane != lane))

    def add(self, lane: str, now: float, wait: float, loss: float, goodput: float) -> "TrialBackoffs":
        """Do not try `lane` for `wait` seconds."""
        return TrialBackoffs(
            (*self.without(lane).entries, TrialBackoff(lane, now + wait, wait, loss, goodput))
        )

    def failed(self, lane: str, now: float, loss: float, goodput: float) -> "TrialBackoffs":
        """Note that a trial of `lane` failed: wait twice as long as the last time."""
        old = self.of(lane)
        wait = BACKOFF if old is None or now > old.until + BACKOFF_MOST else min(BACKOFF_MOST, 2 * old.wait)
        return self.add(lane, now, wait, loss, goodput)
