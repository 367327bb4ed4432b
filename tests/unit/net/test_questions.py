"""Three workers in one process ask each other."""

import gevent
import pytest

from lane.net import questions, siblings
from lane.net.questions import Questions
from lane.net.shelf import Shelf
from lane.net.siblings import Siblings
from lane.testing.harness import until
from tests.support.workers import on_linux

pytestmark = on_linux


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr(questions, "PATIENCE", 0.2)
    inboxes, shelf = [siblings.pair() for _ in range(3)], Shelf(3)
    workers = [Questions(Siblings(number, 3, inboxes), shelf) for number in range(3)]
    yield workers
    for worker in workers:
        worker.here._reading.kill()
        worker.close()
    for pair in inboxes:
        for sock in pair:
            sock.close()
    shelf.close()


def test_long_answers_and_questions_at_the_same_time(workers):
    for number, worker in enumerate(workers):
        worker.answer("sessions", lambda what, number=number: [what, number, "x" * 200_000])
    asking = [gevent.spawn(worker.ask, "sessions", ["me"]) for worker in workers]
    gevent.joinall(asking, timeout=10)
    for one in asking:
        answers = one.value
        assert len(answers[0][2]) == 200_000
        assert {answer[1] for answer in answers} <= {0, 1, 2}
    alone = workers[0].ask("sessions", "a")
    assert [answer[:2] for answer in alone[:1]] == [["a", 0]]
    assert {answer[1] for answer in alone} == {0, 1, 2}


def test_what_is_only_done_is_done_for_all_who_ask_at_the_same_time(workers, caplog):
    done = []
    for number, worker in enumerate(workers):
        worker.answer("do", lambda _, number=number: done.append(number))
    asking = [gevent.spawn(worker.ask, "do") for worker in workers]
    gevent.joinall(asking, timeout=10, raise_error=True)
    assert sorted(done) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert "no answer" not in caplog.text


def test_a_fault_in_an_answer_is_reported_and_costs_only_that_answer(workers, caplog):
    workers[0].answer("x", lambda _: 0)
    workers[1].answer("x", lambda _: 1 / 0)
    workers[2].answer("x", lambda _: 2)
    assert sorted(workers[0].ask("x")) == [0, 2]
    assert "ZeroDivisionError" in caplog.text
    assert "no answer from worker 2 within 0.2 s" in caplog.text


def test_questions_are_bounded(workers):
    answered = []
    workers[1].answer("slow", lambda _: (answered.append(1), gevent.sleep(0.5)))
    workers[0].answer("slow", lambda _: None)
    workers[2].answer("slow", lambda _: None)
    asking = [gevent.spawn(workers[0].ask, "slow") for _ in range(3 * questions.MOST_AT_ONCE)]
    gevent.joinall(asking, timeout=10)
    until(lambda: not len(workers[1]._answering))
    assert len(answered) <= 2 * questions.MOST_AT_ONCE


def test_a_process_that_is_alone_has_nobody_to_ask():
    alone = Questions(Siblings())
    alone.answer("x", lambda what: what)
    assert alone.ask("x", 1) == [1]
    alone.close()
