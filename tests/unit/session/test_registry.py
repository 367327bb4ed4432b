"""The clock that a registry keeps for its sessions: who needs it is looked at, thousands who rest are not."""

from contextlib import ExitStack

import pytest

from lane import heap
from lane.errors import TargetError
from lane.session import registry as module
from lane.session.activity import ACTIVE, IDLE
from lane.session.owner import Owner
from lane.session.registry import Registry
from lane.testing.harness import until


class Sleeper:
    """A session whose last data were `age` seconds ago."""

    def __init__(self, age):
        self.last_data, self.ticks = module.monotonic() - age, 0

    def tick(self, now):
        self.ticks += 1
        return True


@pytest.fixture
def registry(monkeypatch, clock):
    monkeypatch.setattr(module, "TICK", 0.005)
    registry = Registry(1 << 20, 1 << 30, 3600.0, 10, 10)
    yield registry
    registry._active.clear()
    registry.close()


def test_only_sessions_with_something_to_look_after_are_looked_at(registry):
    busy, resting, idle = Sleeper(0), Sleeper((ACTIVE + IDLE) / 2), Sleeper(IDLE + 1)
    for session in (busy, resting, idle):
        registry._wake(session)
    until(lambda: min(busy.ticks, idle.ticks) >= 5)
    assert not resting.ticks
    assert resting in registry._active  # its time will come


def admitted(registry, stack, peer, user, most=1000):
    """How many sessions one gets."""
    for number in range(most):
        try:
            stack.enter_context(registry.admit(peer(number), user))
        except TargetError:
            return number
    return most


def test_no_user_gets_more_sessions_than_are_left_for_the_others():
    registry = Registry(1 << 20, 1 << 30, 3600.0, 50, 1000, many_users=True)
    with ExitStack() as stack:
        assert admitted(registry, stack, "10.0.0.{}".format, "greedy") == 25
        assert admitted(registry, stack, "10.1.0.{}".format, "modest", 5) == 5
        assert admitted(registry, stack, "10.0.1.{}".format, "greedy") == 0
    assert not len(registry)
    registry.close()


def test_a_network_is_counted_as_one_address():
    registry = Registry(1 << 20, 1 << 30, 3600.0, 1000, 10, many_users=True)
    with ExitStack() as stack:
        assert admitted(registry, stack, "2001:db8::{:x}".format, "one") == 10
        assert admitted(registry, stack, "2001:db8:0:1::{:x}".format, "one") == 10
    registry.close()


def test_where_there_is_one_user_he_gets_all():
    registry = Registry(1 << 20, 1 << 30, 3600.0, 50, 1000)
    with ExitStack() as stack:
        assert admitted(registry, stack, "10.0.0.{}".format, "alone") == 50
        assert registry.share("alone") is registry.budget
    registry.close()


def test_sessions_of_one_user_share_what_they_hold_and_nothing_is_left_of_it():
    registry = Registry(1 << 20, 1 << 30, 3600.0, 50, 1000, many_users=True)
    with (
        registry.session(1, Owner(), user="one") as first,
        registry.session(1, Owner(), user="one") as second,
    ):
        assert first.receive_window._budget is second.receive_window._budget is registry.share("one")
        with registry.session(1, Owner(), user="two") as third:
            assert third.receive_window._budget is not first.receive_window._budget
            assert third.receive_window._budget.take(1000)
            third.receive_window._reserved += 1000  # as if it had grown
        assert registry.budget.used == 0
    registry.close()


def test_after_a_peak_memory_is_given_back(registry, monkeypatch):
    given = []
    monkeypatch.setattr(heap, "give_back", lambda: given.append(registry.budget.used))
    with registry.session(1, Owner()) as session:
        registry.budget.used = 2 * module.PEAK
        registry._wake(session)
        until(lambda: registry._peak > module.PEAK)
        assert not given
        registry.budget.used = 0
    until(lambda: given)
    assert given == [0]
