"""Places for slow work, shared out so that no user can take them all.

A user gets a further place only while more places are free than the user already has. So one user who takes
every place on offer leaves half of them free, and a second one leaves a quarter. A user without a place
nearly always gets one. A user at the limit waits in line.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gevent.event import Event

from lane.errors import Status, TargetError


class UserPlaces:
    """At most `most` places in all. `waiting`: the most callers of one user in line.

    `what`: the work, as the refusal names it. `elsewhere` is the number of places that other processes have
    taken.
    """

    def __init__(self, most: int, waiting: int, what: str, elsewhere: Callable[[], int] = int) -> None:
        self._most = most
        self._elsewhere = elsewhere
        self._longest = waiting
        self._what = what
        self._taken: Counter[str] = Counter()
        self._total = 0  # the sum of `_taken`
        self._line: dict[Event, str] = {}  # the waiting callers, the first in line first
        self._waiting: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._total

    @contextmanager
    def place(self, user: str) -> Iterator[None]:
        """Hold a place while the context lasts: see `take`."""
        self.take(user)
        try:
            yield
        finally:
            self.give_back(user)

    def take(self, user: str, *, sure: bool = False) -> None:
        """Wait for a place. Raises TargetError (FAILURE) if too many callers of the user wait already.

        `sure`: one that was given in another process is only counted here.
        """
        if sure or self._may(user):
            self._give(user)
        else:
            self._wait(user)

    def _may(self, user: str) -> bool:
        return self._taken[user] < self._most - self._total - self._elsewhere()

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
            turn.wait()  # no limit: the caller has one
        except BaseException:
            if turn.is_set():  # the place was given just before the exception
                self.give_back(user)
            raise
        finally:
            self._line.pop(turn, None)
            _less(self._waiting, user)

    def give_back(self, user: str) -> None:
        """Release one of the user's places. The next caller in line that may have it gets it."""
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
