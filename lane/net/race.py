"""Happy Eyeballs (RFC 8305): connects to the first of several addresses that works, and soon.

A name often has an address that does not answer: broken IPv6, or one dead host among several. So each attempt
starts shortly after the one before, and the first success wins. The caller defines the attempt: a TCP
connection, a QUIC handshake. If a later attempt wins, the next connections to the name try that winner first
for a while, which spares them the wait.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from time import monotonic
from typing import Any, TypeVar

import gevent
from gevent.queue import Empty, Queue

from lane.deadline import deadline
from lane.errors import Closed, Failure, LaneError
from lane.net.failures import late, most_telling

STAGGER = 0.25
"""Seconds between the starts of two attempts (RFC 8305 section 8)."""
REMEMBERED = 1024
"""Names whose winner is remembered. The one that was settled longest ago is forgotten first."""
LIFE = 600.0
"""Seconds that a winner is tried first. After that the given order applies again (RFC 6555 section 4.2)."""

log = logging.getLogger("lane.net")

Lost = Failure[OSError | LaneError]
Candidate = TypeVar("Candidate", bound=Hashable)
Result = TypeVar("Result")


class Eyeballs:
    """Runs the races between the addresses of names, and remembers the winners."""

    def __init__(self) -> None:
        self._won: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()  # the winner and its expiry time

    def connect(
        self,
        name: Hashable,
        candidates: Sequence[Candidate],
        attempt: Callable[[Candidate], Result],
        discard: Callable[[Result], object],
        timeout: float,
    ) -> Result:
        """Connect to one of the `candidates` of `name`, best first; return the first success of `attempt`.

        `attempt` raises OSError or LaneError if it fails, and releases everything when it is killed.
        `discard` closes a connection that comes too late. Raises the most telling of the errors. After
        `timeout` seconds, an attempt without an answer counts as ETIMEDOUT.
        """
        if len(candidates) == 1:  # no race, so no greenlets
            with deadline(timeout, late):
                return attempt(candidates[0])
        ordered = self._order(name, candidates)
        winner, result = _race(ordered, attempt, discard, timeout)
        if winner == candidates[0]:
            self._won.pop(name, None)
        elif winner != ordered[0]:
            self._won[name] = winner, monotonic() + LIFE
            if len(self._won) > REMEMBERED:
                self._won.popitem(last=False)
        return result

    def _order(self, name: Hashable, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        winner, until = self._won.get(name, (None, 0.0))
        if winner is None or winner not in candidates or until < monotonic():
            return candidates
        return [winner, *(one for one in candidates if one != winner)]


def _race(
    candidates: Sequence[Candidate],
    attempt: Callable[[Candidate], Result],
    discard: Callable[[Result], object],
    timeout: float,
) -> tuple[Candidate, Result]:
    """Race the candidates. Return the winner and its result."""
    untried = deque(candidates)
    outcomes: Queue[tuple[Candidate, Result] | Lost] = Queue()
    outcome: tuple[Candidate, Result] | Lost
    over = False
    lost: list[Lost] = []

    def run(candidate: Candidate) -> None:
        try:
            result = attempt(candidate)
        except (OSError, LaneError) as error:
            outcomes.put(Failure.of(error))
        except Exception:
            log.exception("an attempt to connect failed unexpectedly")
            outcomes.put(Failure.of(Closed("failed unexpectedly")))
        else:
            if over:
                discard(result)
            else:
                outcomes.put((candidate, result))

    running: list[gevent.Greenlet[..., Any]] = []
    try:
        with gevent.Timeout(timeout, False):
            while len(lost) < len(candidates):
                if untried:
                    running.append(gevent.spawn(run, untried.popleft()))
                try:
                    outcome = outcomes.get(timeout=STAGGER if untried else None)
                except Empty:
                    continue
                if not isinstance(outcome, Failure):
                    return outcome
                lost.append(outcome)
    finally:
        over = True
        for greenlet in running:
            greenlet.kill(block=False)
        while not outcomes.empty():
            loser = outcomes.get_nowait()
            if not isinstance(loser, Failure):
                discard(loser[1])
    if len(lost) < len(candidates):
        lost.append(Failure.of(late()))
    raise most_telling(lost)
