"""Whose waiting sessions make room for others: always those of who has the most."""

from functools import partial
from types import SimpleNamespace

import gevent
import pytest

from lane.server.resumption import Resumption
from lane.testing.harness import until


@pytest.fixture
def make(clock):
    made = []

    def make(most=60, most_bytes=1 << 20, grace=100.0):
        made.append(Resumption(grace, most, most_bytes))
        return made[-1]

    yield make
    for resumption in made:
        resumption.close()


def leave(resumption, user, number, retained=0):
    """A session of `user` that nothing carries; its `why` says why it was given up."""
    entry = resumption.begin((user, number.to_bytes(16, "big")), 0)
    session = SimpleNamespace(over=False, carried=False, retained=retained, why=None)
    session.fail = lambda error: setattr(session, "why", error)
    entry.begin(SimpleNamespace(session=session))
    resumption.orphaned(entry)
    return session


def lost(sessions):
    return [number for number, session in enumerate(sessions) if session.why]


def test_one_who_leaves_many_loses_his_own_oldest(make):
    resumption = make()
    modest = leave(resumption, "modest", 0)
    greedy = [leave(resumption, "greedy", number) for number in range(100)]
    assert not modest.why
    assert lost(greedy) == list(range(70))
    assert resumption.waiting == 31


def test_where_all_places_are_taken_he_who_has_the_most_makes_room(make):
    resumption = make()
    greedy = [leave(resumption, "greedy", number) for number in range(30)]
    others = [leave(resumption, f"user {number}", number) for number in range(40)]
    assert lost(greedy) == list(range(10))
    assert not lost(others)
    assert resumption.waiting == 60


def test_bytes_are_counted_the_same_way(make):
    resumption = make()
    modest = leave(resumption, "modest", 0, 1 << 18)
    greedy = [leave(resumption, "greedy", number, 1 << 17) for number in range(8)]
    until(lambda: lost(greedy))
    assert lost(greedy) == [0, 1, 2, 3]
    assert not modest.why


def test_bytes_of_all_are_bounded_and_who_holds_the_most_gives(make):
    resumption = make()
    large = [leave(resumption, "large", number, 1 << 17) for number in range(4)]
    small = [leave(resumption, f"user {number}", number, 1 << 17) for number in range(6)]
    until(lambda: lost(large))
    assert lost(large) == [0, 1]
    assert not lost(small)


def test_others_have_their_turns_while_many_are_late(make, clock):
    """As when a client with thousands of them has died: each end takes time."""
    resumption = make(most=400, grace=5.0)
    many = [leave(resumption, "one", number) for number in range(100)]

    seen = []

    def fail(session, error):
        clock.now += 0.001
        session.why = error
        gevent.get_hub().loop.run_callback(lambda: seen.append(len(lost(many))))

    for session in many:
        session.fail = partial(fail, session)
    until(lambda: len(lost(many)) == 100)
    assert min(seen) < 5
    assert not resumption.waiting


def test_who_comes_back_is_counted_no_more(make):
    resumption = make()
    leave(resumption, "one", 0)
    resumption.carried(resumption.find(("one", bytes(16)), 1))
    assert resumption.waiting == 0
    assert not resumption._orphans
