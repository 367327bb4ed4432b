"""Places for work that may take long, which nobody can take from the others.

A user may take a further place only while more are free than he has. So one who takes all he can leaves half
of them, two leave a quarter, and who has none gets one nearly always. Who may not go on waits for his turn.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gevent.event import Event

from lane.errors import Status, TargetError


class Shares:
    """`most` places in all; `waiting` are in line at most, of one user. `what` they do, for the refusal."""

    def __init__(self, most: int, waiting: int, what: str) -> None:
        self._most = most
        self._longest = waiting
        self._what = what
        self._taken: Counter[str] = Counter()
        self._total = 0  # of them
        self._line: dict[Event, str] = {}  # in their order
        self._waiting: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._total

    @contextmanager
    def place(self, user: str) -> Iterator[None]:
        """Have a place while the context lasts: see `take`."""
        self.take(user)
        try:
            yield
        finally:
            self.give_back(user)

    def take(self, user: str) -> None:
        """Wait for a place. Raises TargetError (FAILURE) where too many wait already."""
        if self._may(user):
            self._give(user)
        else:
            self._wait(user)

    def _may(self, user: str) -> bool:
        return self._taken[user] < self._most - self._total

    def _give(self, user: str) -> None:
        self._taken[user] += 1
        self._total += 1

    def _wait(self, user: str) -> None:
        if self._waiting[user] >= self._longest:
            raise TargetError(Status.FAILURE, f"too many {self._what} at once")
        turn = Event()
        self._line[turn] = user
        self._waiting[user] += 1
        try:
            turn.wait()  # no limit: who asks for a place has one
        except BaseException:
            if turn.is_set():  # in this very moment
                self.give_back(user)
            raise
        finally:
            self._line.pop(turn, None)
            _less(self._waiting, user)

    def give_back(self, user: str) -> None:
        """Let go of one of his places: whoever is next in line has it."""
        _less(self._taken, user)
        self._total -= 1
        for turn, other in self._line.items():
            if self._may(other):
                self._give(other)
                del self._line[turn]
                turn.set()
                break


def _less(counter: Counter[str], user: str) -> None:
    counter[user] -= 1
    if not counter[user]:
        del counter[user]
