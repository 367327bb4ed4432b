"""The gate of one user and one direction: all bytes of the user's sessions and packets pass it, at its rate.

Who wants to move a piece pays for it first, and waits until it is due. Nothing is dropped here: the relay
does not read from the target meanwhile, and does not acknowledge what came from the client. So TCP and the
session's windows slow both down from end to end. A gate without a rate lets everything pass.

The sessions of a user wait in a fair line. With several workers, one of them must not be quicker than the
others: each waits a little longer than it must, for a random time that is shorter where more sessions wait.
So each slot goes to one of the waiting sessions, whichever worker it is in.
"""

from collections.abc import Callable
from math import inf
from random import expovariate
from time import monotonic
from typing import Any, Protocol

from gevent import get_hub
from gevent.event import Event

from lane.fair import maybe_yield
from lane.users.bucket import Bucket
from lane.users.line import Line
from lane.users.turns import Turns

LARGEST = 1 << 20
"""Bytes of a piece without a rate: more than anybody reads at once."""
LEAST_PIECE = 1460
"""Bytes of the smallest piece that a rate leads to: one packet."""
PIECE = 0.010
"""Seconds of the rate that are one piece."""
RECENT = 0.1
"""Seconds after which somebody who comes back did not hurry to use the rate."""
LEAST = 1000.0
"""Bytes a second of the slowest rate."""


class Flow(Protocol):
    """The part of a session that is used here."""

    @property
    def over(self) -> bool:
        """Whether it needs nothing any more."""


class Gate:
    """The gate with the bucket that `find` looks up. `shared`: other workers use it too."""

    __slots__ = (
        "_bucket", "_find", "_served", "_shared", "_timer", "_waiting", "limited", "piece", "rate", "spent",
        "waited",
    )  # fmt: skip

    def __init__(self, find: Callable[[], Bucket] = Bucket, *, shared: bool = False) -> None:
        self.rate = 0.0
        """Bytes a second; 0 without a limit."""
        self.limited = False
        """Whether there is a limit."""
        self.piece = LARGEST
        """The most bytes to ask for at once."""
        self.spent = 0
        """Bytes that passed while there was a limit."""
        self.waited = False
        """Whether anything had to wait. Whoever looks at it takes it back."""
        self._find = find
        self._shared = shared
        self._bucket: Bucket | None = None
        self._waiting: Line[Flow, Event] | None = None
        self._timer: Any = None
        self._served = -inf  # when one in line passed last

    @property
    def waiting(self) -> int:
        """Those in line."""
        return len(self._waiting) if self._waiting is not None else 0

    def limit(self, rate: float | None) -> None:
        """Set the rate, bytes a second; None: no limit. Those who wait go on at the new rate."""
        self.rate = max(rate, LEAST) if rate is not None else 0.0
        self.limited = rate is not None
        self.piece = int(min(max(self.rate * PIECE, LEAST_PIECE), LARGEST)) if self.limited else LARGEST
        if self._waiting:
            self._serve()

    def pay(self, flow: Flow, size: int) -> None:
        """Wait until `size` bytes of `flow` may move. Returns at once if it is over, or when it ends."""
        if not self.limited:
            return
        if not self._waiting and not self._wait():
            self._spend(size)
            return
        turn = Event()
        self._join(flow, size, turn)
        self._arm()
        try:
            turn.wait()  # no limit: the line moves at the rate, and whoever ends the session calls `leave`
        except BaseException:
            self.leave(flow)
            raise

    def leave(self, flow: Flow) -> None:
        """`flow` has ended: wake whoever waits for it."""
        for turn in self._waiting.leave(flow) if self._waiting else ():
            turn.set()

    def _join(self, flow: Flow, size: int, turn: Event) -> None:
        if self._waiting is None:
            self._waiting = Line()
        self._waiting.join(flow, size, turn)
        self.waited = True

    def _wait(self) -> float:
        if self._bucket is None or self._bucket.lost:
            self._bucket = self._find()
        now = monotonic()
        late = bool(self._waiting) or now - self._served < RECENT
        return self._bucket.wait(now, self.rate, late=late)

    def _spend(self, size: int) -> None:
        assert self._bucket is not None
        self._bucket.spend(size, self.rate)
        self.spent += size

    def _arm(self) -> None:
        """Serve the line when the next piece is due."""
        if self._timer is not None:
            return
        after = self._wait()
        if self._shared and (line := self._waiting):
            after += expovariate(len(line)) * line.size / self.rate / 2
        self._timer = get_hub().loop.timer(after)
        self._timer.start(self._serve, update=True)

    def _serve(self) -> None:
        """Let those in line pass whose pieces are due. Called by the event loop: it must not block."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        while self._waiting and not (self.limited and self._wait()):
            flow, size, turn = self._waiting.next()
            self._served = monotonic()
            if self.limited and not flow.over:
                self._spend(size)
            turn.set()
            if self._shared and self.limited:
                break  # others may be waiting for the same
        if self._waiting:
            self._arm()


class Gates:
    """The two gates of a user, who has `turns` among others. None: there are no others."""

    __slots__ = ("_turns", "alone", "down", "up")

    def __init__(self, up: Gate, down: Gate, turns: Turns | None = None) -> None:
        self.up = up
        """For what clients send."""
        self.down = down
        """For what targets send."""
        self.alone = turns is None
        """Whether there are no others."""
        self._turns = turns

    def turn(self, size: int, waited_in: float = 0.0) -> None:
        """Let others have a turn, after a step that moved `size` bytes: see `Turns.take`."""
        if self._turns is None:
            maybe_yield(waited_in)
        else:
            self._turns.take(self, size, waited_in)

    def may_pass(self, size: int) -> bool:
        """Whether a step that moves `size` bytes needs no turn. It counts as one that had its turn then."""
        return self._turns is None or self._turns.may_pass(self, size)


OPEN = Gates(Gate(), Gate())
"""Those of a user without limits, as on a client. They are never limited."""
