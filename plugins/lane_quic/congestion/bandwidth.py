"""The bandwidth of a path as BBR models it: the largest delivery rate of the last ten round trips.

Ten rounds take long if each waits behind a full queue. If a queue stands and three rounds have brought less
than half of the bandwidth, older rates are forgotten.

A start that brings no growth has found the bandwidth. A later start finds what the path brings now.
"""

ROUNDS = 10
"""Rounds over which the bandwidth is the largest rate."""
COLLAPSE_ROUNDS = 3
"""Rounds with a low rate after which older rates are forgotten."""
COLLAPSE = 0.5
"""A rate below this fraction of the bandwidth is low."""
GROWTH = 1.25
"""At the start the bandwidth grows by this factor or more,"""
FULL_ROUNDS = 3
"""until so many rounds have brought less: the path is full."""


class Bandwidth:
    """The bandwidth of one path, bytes a second. Only rounds that the network limited count."""

    __slots__ = ("_best", "_flat", "_forgotten", "_grown", "_of_late", "_rates", "_rounds")

    def __init__(self) -> None:
        self._rates: list[tuple[int, float]] = []  # (round, rate), the largest rate first, then newer ones
        self._rounds = 0
        self._best = 0.0  # the largest rate of the round
        self._of_late: list[float] = []  # the same of the last rounds
        self._forgotten = 0.0  # the largest one that was forgotten because of a queue
        self._grown, self._flat = 0.0, 0  # the bandwidth when it last grew at the start, and rounds since

    @property
    def value(self) -> float:
        """The bandwidth; 0 if it is not known."""
        return self._rates[0][1] if self._rates else 0.0

    def note(self, rate: float, *, limited: bool) -> None:
        """Note a delivery rate, 0 if it is not known. A `limited` one shows only that there is so much."""
        self._best = max(self._best, rate)
        if rate and (not limited or rate >= self.value):
            self._add(rate)

    def end_round(self, *, limited: bool, queue: bool) -> None:
        """Note that a round ended, and whether the application `limited` it, and a `queue` stood in it."""
        best, self._best = self._best, 0.0
        if limited:
            return
        self._rounds += 1
        while self._rates and self._rates[0][0] < self._rounds - ROUNDS:
            del self._rates[0]
        late = self._of_late
        late.append(best)
        del late[:-COLLAPSE_ROUNDS]
        if queue and len(late) == COLLAPSE_ROUNDS and max(late) < COLLAPSE * self.value:
            self._forgotten = max(self._forgotten, self.value)
            self._rates.clear()
            self._add(max(late))

    @property
    def grows(self) -> bool:
        """Whether it has grown, at the start, since `ends_growth` noted it."""
        return self.value >= GROWTH * self._grown

    @property
    def stays(self) -> bool:
        """Whether, at the start, more than one round has brought no growth."""
        return self._flat > 1

    def ends_growth(self) -> bool:
        """Note that a round of the start ended. Returns whether the path is full."""
        self._flat += 1
        if self.grows:
            self._grown, self._flat = self.value, 0
        return self._flat >= FULL_ROUNDS

    def start_again(self) -> float:
        """Forget all rates. Returns the bandwidth, or the largest that was forgotten because of a queue."""
        most = max(self.value, self._forgotten)
        self._rates.clear()
        self._forgotten, self._grown, self._flat = 0.0, 0.0, 0
        return most

    def _add(self, rate: float) -> None:
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((self._rounds, rate))
