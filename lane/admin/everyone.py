"""All workers of a server, asked by any one of them.

A question goes to the others over `lane.net.siblings`. An answer may be longer than a message there, so it is
left on a shelf (`lane.admin.shelf`), and only the news of it is sent. A worker that hangs costs a second, and
counts with what it left last.
"""

import json
import logging
import secrets
from collections.abc import Callable
from itertools import count
from typing import Any

from gevent.event import Event
from gevent.pool import Pool

from lane.admin.cleared import Cleared
from lane.admin.shelf import Shelf
from lane.admin.state import State, together
from lane.net.siblings import Siblings
from lane.supervisor import report

PATIENCE = 1.0
"""Seconds for the answers of the others."""
MOST_AT_ONCE = 16
"""Questions of others that are answered at once. Further ones wait until their askers give up."""
_ASK, _ANSWER = "admin-ask", "admin-answer"

log = logging.getLogger("lane.admin")


class Shelves:
    """The shelves of a server's workers: what each has counted, its last answer, and what was cleared."""

    def __init__(self, workers: int) -> None:
        self.states = Shelf(workers)
        self.answers = Shelf(workers)
        self.cleared = Cleared()


class Everyone:
    """The workers of a server, seen from `here`. `collect` says what this one has counted.

    `alive(worker)`: whether there is such a process. Without `shelves` this is the only one.
    """

    def __init__(
        self,
        collect: Callable[[], State],
        here: Siblings,
        shelves: Shelves | None = None,
        alive: Callable[[int], bool] = lambda worker: True,
    ) -> None:
        self._collect = collect
        self._here = here
        self._shelves = shelves
        self._alive = alive
        self._handlers: dict[str, Callable[[Any], Any]] = {"leave": lambda _: self.leave()}
        self._numbers = count(secrets.randbits(48))  # a late answer to a worker that died is none to this one
        self._waiting: dict[int, tuple[set[int], dict[int, Any], Event]] = {}
        self._answering = Pool(MOST_AT_ONCE)
        self._before = self._left(here.index).lasting()
        here.receive(_ASK, self._asked)
        here.receive(_ANSWER, self._answered)

    def answer(self, question: str, handler: Callable[[Any], Any]) -> None:
        """Have `handler(argument)` answer that question. Both are JSON."""
        self._handlers[question] = handler

    def leave(self) -> State:
        """Leave what this worker has counted for the others, and return it."""
        state = together((self._before, self._collect()))
        if self._shelves is not None:
            self._shelves.states.put(self._here.index, state.pack())
        return state

    def total(self) -> State:
        """What all workers have counted, those that died included."""
        self.ask("leave")
        if self._shelves is None:
            return self.leave()
        states = []
        for worker in range(self._here.count):
            state = self._left(worker)
            states.append(state if self._alive(worker) else state.lasting())
        return together(states)

    def ask(self, question: str, argument: Any = None) -> list[Any]:
        """The answers of all workers that gave one in time, this one's first."""
        number, others = next(self._numbers), {*range(self._here.count)} - {self._here.index}
        missing = {other for other in others if self._alive(other)}
        answers: dict[int, Any] = {}
        done = Event()
        self._waiting[number] = missing, answers, done
        message = json.dumps([self._here.index, number, question, argument]).encode()
        try:
            for other in [*missing]:
                self._here.send(other, _ASK, message)
            own = self._handlers[question](argument)
            if missing and not done.wait(PATIENCE):
                names = ", ".join(str(other + 1) for other in sorted(missing))
                log.warning("no answer from worker %s within %g s", names, PATIENCE)
        finally:
            del self._waiting[number]
        return [own if question != "leave" else None, *answers.values()]

    def close(self) -> None:
        """Leave the last state for a successor."""
        self._answering.kill(block=False)
        self.leave()

    def _left(self, worker: int) -> State:
        data = self._shelves.states.get(worker) if self._shelves is not None else None
        return State.unpack(data) if data else State()

    def _asked(self, message: bytes) -> None:
        if not self._answering.full():
            self._answering.spawn(self._reply, *json.loads(message))

    def _reply(self, asker: int, number: int, question: str, argument: Any) -> None:
        """Answer a question of another worker."""
        try:
            answer = self._handlers[question](argument)
            if self._shelves is not None and question != "leave":
                content = json.dumps([asker, number, answer]).encode()
                self._shelves.answers.put(self._here.index, content)
            self._here.send(asker, _ANSWER, json.dumps([self._here.index, number, question]).encode())
        except Exception as error:
            report(f"the answer to {question} for another worker", error)

    def _answered(self, message: bytes) -> None:
        worker, number, question = json.loads(message)
        if number not in self._waiting or self._shelves is None:
            return  # too late
        missing, answers, done = self._waiting[number]
        if question != "leave":
            found = self._shelves.answers.get(worker)
            asker, last, answer = json.loads(found) if found else (-1, -1, None)
            if (asker, last) != (self._here.index, number):
                return  # it has answered somebody else meanwhile
            answers[worker] = answer
        missing.discard(worker)
        if not missing:
            done.set()
