"""What all workers of a server have counted, as any one of them tells it.

Each leaves its numbers on a shelf (`lane.net.shelf`) when another one asks. A worker that hangs counts with
what it left last.
"""

from collections.abc import Callable

from lane.admin.cleared import Cleared
from lane.admin.state import State, together
from lane.net.questions import Questions
from lane.net.shelf import Shelf

_LEAVE = "leave"


class Shelves:
    """The shelves of a server's workers: what each has counted, and what was cleared."""

    def __init__(self, workers: int) -> None:
        self.states = Shelf(workers)
        self.cleared = Cleared()


class Everyone:
    """The workers of a server, who answer `questions`. `collect` says what this one has counted.

    Without `shelves` this is the only one.
    """

    def __init__(
        self, collect: Callable[[], State], questions: Questions, shelves: Shelves | None = None
    ) -> None:
        self.questions = questions
        self._collect = collect
        self._here = questions.here
        self._shelves = shelves
        self._before = self._left(self._here.index).lasting()
        questions.answer(_LEAVE, lambda _: self._answer())

    def leave(self) -> State:
        """Leave what this worker has counted for the others, and return it."""
        state = together((self._before, self._collect()))
        if self._shelves is not None:
            self._shelves.states.put(self._here.index, state.pack())
        return state

    def total(self) -> State:
        """What all workers have counted, those that died included."""
        if self._shelves is None:
            return self.leave()
        self.questions.ask(_LEAVE)
        states = []
        for worker in range(self._here.count):
            state = self._left(worker)
            states.append(state if self.questions.alive(worker) else state.lasting())
        return together(states)

    def close(self) -> None:
        """Leave the last state for a successor."""
        self.leave()

    def _answer(self) -> None:
        self.leave()

    def _left(self, worker: int) -> State:
        data = self._shelves.states.get(worker) if self._shelves is not None else None
        return State.unpack(data) if data else State()
