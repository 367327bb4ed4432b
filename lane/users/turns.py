"""Turns of users whose sessions keep this process busy: each user gets as much of it as any other.

Sessions that never wait give way to each other (`lane.fair`). Then the event loop serves each one once, so a
user with a hundred downloads has a hundred times as much as one with a single download. So while several
users are at work, a session that would give way stands in a line instead, in which users take turns, and not
sessions. Without a second user nothing is different from `lane.fair.maybe_yield`.
"""

from time import monotonic

import gevent
from gevent.event import Event

from lane.fair import QUANTUM, maybe_yield, pass_turn, this_round
from lane.supervisor import supervise
from lane.users.line import Line

RECENT = 0.1
"""Seconds for which several users count as being at work after one of them followed on another one."""
STEP = 16384
"""Bytes that each step costs beside those that it moves: for the process, a small step is not free."""


class Turns:
    """The turns of the users of one event loop. A user is any object."""

    def __init__(self) -> None:
        self._round = this_round()
        self._last: object = None  # the user of the last step
        self._several_until = 0.0
        self._line: Line[object, Event] = Line()
        self._serving = False

    def take(self, user: object, size: int, waited_in: float = 0.0) -> None:
        """Call it in each step of a loop that may never wait. `size`: the bytes that the step has moved.

        `waited_in`: see `lane.fair.maybe_yield`.
        """
        if not self.may_pass(user, size):
            self._stand_in_line(user, size)
        elif monotonic() >= self._several_until:
            maybe_yield(waited_in)

    def may_pass(self, user: object, size: int) -> bool:
        """Whether `user` need not stand in line for a step of `size` bytes, which counts then."""
        now = monotonic()
        if user is not self._last:
            self._last, self._several_until = user, now + RECENT
        if now >= self._several_until:
            return True
        if now - self._round.began > QUANTUM:
            return False
        self._line.charge(user, size + STEP)
        return True

    def _stand_in_line(self, user: object, size: int) -> None:
        turn = Event()
        self._line.join(user, size + STEP, turn)
        if not self._serving:
            self._serving = True
            supervise("the turns of users", self._serve)
        turn.wait()  # no limit: a turn takes less than a millisecond

    def _serve(self) -> None:
        """Let those in line go on, a quantum's worth in each iteration of the event loop."""
        while self._line:
            if monotonic() - self._round.began > QUANTUM:
                pass_turn()
            self._line.next()[2].set()
            gevent.sleep(0)  # it has its turn now
        self._serving = False
