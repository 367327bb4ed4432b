"""Three workers in one process: each has its inbox, and they share the shelves."""

import pytest

from lane.admin.everyone import Everyone, Shelves
from lane.admin.state import State
from lane.net import questions, siblings
from lane.net.questions import Questions
from lane.net.shelf import Shelf
from lane.net.siblings import Siblings
from tests.support.workers import on_linux

pytestmark = on_linux


class Worker(Everyone):
    def __init__(self, world, number):
        self.moved = 0
        here = Siblings(number, 3, world.inboxes)
        super().__init__(self.count, Questions(here, world.answers, world.alive.__contains__), world.shelves)

    def count(self):
        state = State()
        state.count("bytes", {(): self.moved})
        state.gauge("sessions", 1)
        return state


class World:
    def __init__(self):
        self.inboxes = [siblings.pair() for _ in range(3)]
        self.shelves, self.answers = Shelves(3), Shelf(3)
        self.alive = {0, 1, 2}
        self.workers = [Worker(self, number) for number in range(3)]

    def total(self, worker=0):
        state = self.workers[worker].total()
        return state.counters["bytes"][()], state.gauges["sessions"][()]


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(questions, "PATIENCE", 0.2)
    world = World()
    yield world
    for worker in world.workers:
        worker._here._reading.kill()
        worker.close()
    for pair in world.inboxes:
        for sock in pair:
            sock.close()


def test_each_answers_for_all_with_what_is_true_now(world):
    for number, worker in enumerate(world.workers):
        worker.moved = 10**number
        assert world.total(number) == (sum(10**one for one in range(number + 1)), 3)


def test_a_worker_that_died_counts_with_what_it_had_and_so_does_its_successor(world):
    world.workers[1].moved = 100
    assert world.total() == (100, 3)
    world.workers[1]._here._reading.kill()
    world.alive.discard(1)
    assert world.total() == (100, 2)
    world.workers[1] = Worker(world, 1)
    world.alive.add(1)
    world.workers[1].moved = 5
    assert world.total() == (105, 3)


def test_one_that_hangs_costs_a_moment_and_counts_with_what_it_left(world, caplog):
    world.workers[2].moved = 7
    assert world.total() == (7, 3)
    world.workers[2]._here._reading.kill()
    world.workers[2].moved = 8
    assert world.total() == (7, 3)
    assert "no answer from worker 3 within 0.2 s" in caplog.text


def test_a_server_of_one_process_has_nobody_to_ask():
    alone = Everyone(State, Questions(Siblings()))
    assert alone.total().counters == {}
    alone.close()
