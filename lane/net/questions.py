"""Questions to all workers of a server, asked by any one of them.

A question goes to the others over `lane.net.siblings`. An answer may be longer than a message there, so it is
left on a shelf (`lane.net.shelf`), and only the news of it is sent. A worker that hangs costs a second.
"""

import json
import logging
import secrets
from collections.abc import Callable
from itertools import count
from typing import Any

from gevent.event import Event
from gevent.pool import Pool

from lane.net.shelf import Shelf
from lane.net.siblings import Siblings
from lane.supervisor import report

PATIENCE = 1.0
"""Seconds for the answers of the others."""
MOST_AT_ONCE = 16
"""Questions of others that are answered at once. Further ones wait until their askers give up."""
_ASK, _ANSWER = "ask", "answer"

log = logging.getLogger("lane.server")


class Questions:
    """The workers of a server, seen from `here`. `shelf` has their answers; None: this is the only one.

    `alive(worker)`: whether there is such a process.
    """

    def __init__(
        self, here: Siblings, shelf: Shelf | None = None, alive: Callable[[int], bool] = lambda worker: True
    ) -> None:
        self.here = here
        self.alive = alive
        self._shelf = shelf
        self._handlers: dict[str, Callable[[Any], Any]] = {}
        self._numbers = count(secrets.randbits(48))  # a late answer to a worker that died is none to this one
        self._waiting: dict[int, tuple[set[int], dict[int, Any], Event]] = {}
        self._answering = Pool(MOST_AT_ONCE)
        here.receive(_ASK, self._asked)
        here.receive(_ANSWER, self._answered)

    def answer(self, question: str, handler: Callable[[Any], Any]) -> None:
        """Have `handler(argument)` answer that question. Both are JSON. None: it was only to do something."""
        self._handlers[question] = handler

    def ask(self, question: str, argument: Any = None) -> list[Any]:
        """The answers of all workers that gave one in time, this one's first."""
        number, others = next(self._numbers), {*range(self.here.count)} - {self.here.index}
        missing = {other for other in others if self.alive(other)}
        answers: dict[int, Any] = {}
        done = Event()
        self._waiting[number] = missing, answers, done
        message = json.dumps([self.here.index, number, question, argument]).encode()
        try:
            for other in [*missing]:
                self.here.send(other, _ASK, message)
            own = self._handlers[question](argument)
            if missing and not done.wait(PATIENCE):
                names = ", ".join(str(other + 1) for other in sorted(missing))
                log.warning("no answer from worker %s within %g s", names, PATIENCE)
        finally:
            del self._waiting[number]
        return [own, *answers.values()]

    def close(self) -> None:
        """Answer no more."""
        self._answering.kill(block=False)

    def _asked(self, message: bytes) -> None:
        if not self._answering.full():
            self._answering.spawn(self._reply, *json.loads(message))

    def _reply(self, asker: int, number: int, question: str, argument: Any) -> None:
        """Answer a question of another worker."""
        try:
            answer = self._handlers[question](argument)
            if self._shelf is not None and answer is not None:
                self._shelf.put(self.here.index, json.dumps([asker, number, answer]).encode())
            news = [self.here.index, number, answer is not None]
            self.here.send(asker, _ANSWER, json.dumps(news).encode())
        except Exception as error:
            report(f"the answer to {question} for another worker", error)

    def _answered(self, message: bytes) -> None:
        worker, number, whole = json.loads(message)
        if number not in self._waiting or self._shelf is None:
            return  # too late
        missing, answers, done = self._waiting[number]
        if whole:
            found = self._shelf.get(worker)
            asker, last, answer = json.loads(found) if found else (-1, -1, None)
            if (asker, last) != (self.here.index, number):
                return  # it has answered somebody else meanwhile
            answers[worker] = answer
        missing.discard(worker)
        if not missing:
            done.set()
