"""The clock that a registry keeps for its sessions: who needs it is looked at, thousands who rest are not."""

from contextlib import ExitStack

import gevent
import pytest

from lane import heap
from lane.errors import TargetError
from lane.session import registry as module
from lane.session.activity import ACTIVE, AWAKE, IDLE
from lane.session.owner import Owner
from lane.session.registry import Registry
from lane.testing.harness import until
from tests.support.clock import give_gevent


class Sleeper:
    """A session whose last data were `age` seconds ago. It has a window to give up, unless it is `small`."""

    waiting_for_peer = over = False

    def __init__(self, age, *, small=False):
        self.last_data, self.ticks, self.ended = module.monotonic() - age, 0, False
        self.small = small

    def tick(self, now):
        self.ticks += 1
        return now - self.last_data < ACTIVE or not self.small

    def reset(self):
        self.ended = True


@pytest.fixture
def registry(monkeypatch, clock):
    monkeypatch.setattr(module, "TICK", 0.005)
    registry = Registry(1 << 20, 1 << 30, 3600.0, 10, 10)
    yield registry
    registry.close()


def test_only_sessions_with_something_to_look_after_are_looked_at(registry):
    busy, resting, late = Sleeper(0), Sleeper((ACTIVE + IDLE) / 2), Sleeper(IDLE + 1)
    idle = [Sleeper(ACTIVE + 1, small=True) for _ in range(1000)]
    for session in (busy, resting, late, *idle):
        registry._wake(session)
    until(lambda: min(busy.ticks, late.ticks) >= 5)
    assert resting.ticks == 1
    assert {session.ticks for session in idle} == {1}
    assert {*registry.sessions} == {busy, resting, late, *idle}
    assert {*registry.active} == {busy, late}


def test_a_session_at_rest_is_looked_at_when_it_is_due_or_when_its_data_move(registry, monkeypatch):
    resting, woken, idle = Sleeper(ACTIVE + 1), Sleeper(ACTIVE + 1), Sleeper(ACTIVE + 1, small=True)
    for session in (resting, woken, idle):
        registry._wake(session)
    until(lambda: not registry.active)
    woken.last_data = module.monotonic()
    registry._wake(woken)
    until(lambda: woken.ticks >= 5)
    assert resting.ticks == idle.ticks == 1
    monkeypatch.setattr(module, "IDLE", ACTIVE + 0.5)
    until(lambda: resting.ticks >= 5)
    assert idle.ticks == 1


def test_a_session_that_rests_for_too_long_is_ended_unless_it_waits_for_a_peer(registry):
    registry._idle_timeout = ACTIVE + 0.2
    idle, waiting = Sleeper(ACTIVE + 0.1, small=True), Sleeper(ACTIVE + 0.1, small=True)
    waiting.waiting_for_peer = True
    for session in (idle, waiting):
        registry._wake(session)
    until(lambda: idle.ended)
    until(lambda: waiting.ticks >= 2)
    assert not waiting.ended
    assert not registry.active


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
    monkeypatch.setattr(module, "AFTERMATH", 0.01)
    monkeypatch.setattr(heap, "give_back", lambda: given.append(registry.budget.used))
    with registry.session(1, Owner()) as session:
        registry.budget.used = 2 * module.PEAK
        registry._wake(session)
        until(lambda: registry._peak > module.PEAK)
        assert not given
        registry.budget.used = 0
    until(lambda: given)
    assert given == [0]


def test_after_some_sessions_memory_is_given_back_without_a_collection(monkeypatch, clock):
    """Their first windows are not in the budget."""
    given = []
    monkeypatch.setattr(module, "TICK", 0.005)
    monkeypatch.setattr(module, "AFTERMATH", 0.01)
    monkeypatch.setattr(heap, "give_back", lambda: given.append(len(registry)))
    monkeypatch.setattr(heap, "collect", lambda: given.append("collected"))
    registry = Registry(1 << 20, 1 << 30, 3600.0, 10_000, 10_000)
    places = [registry.admit() for _ in range(4 * module.SOME)]
    until(lambda: not registry._activity.is_set())
    while len(registry) > module.SOME + 1:
        places.pop().__exit__()
    assert not registry._activity.is_set()
    places.pop().__exit__()
    until(lambda: given)
    assert given == [module.SOME]
    registry.close()


def test_after_a_crowd_memory_is_given_back(monkeypatch, clock):
    """Also if what the sessions held was little: each of them takes some tens of KB itself."""
    given, marked = [], []
    monkeypatch.setattr(heap, "crowd", marked.append)
    monkeypatch.setattr(module, "TICK", 0.005)
    monkeypatch.setattr(module, "AFTERMATH", 0.01)
    monkeypatch.setattr(heap, "give_back", lambda: given.append(len(registry)))
    registry = Registry(1 << 20, 1 << 30, 3600.0, 10_000, 10_000)
    places = [registry.admit() for _ in range(4 * module.CROWD)]
    until(lambda: not registry._activity.is_set())
    assert marked == [True]
    for left in (3 * module.CROWD, 2 * module.CROWD, module.CROWD):
        while len(registry) > left:
            places.pop().__exit__()
        until(lambda: given or places.pop().__exit__())  # the last ones may go one by one
        assert left * 7 // 8 < given.pop() <= left
    assert marked == [True, False]
    places.pop().__exit__()
    assert not registry._activity.is_set()  # one less is no reason
    registry.close()


def test_what_happens_during_a_tick_is_not_forgotten(registry, monkeypatch):
    """The clock gives way between two sessions, and others may end meanwhile."""
    looked = []
    monkeypatch.setattr(registry, "_give_back", lambda now: looked.append(busy.over))

    class Busy(Sleeper):
        def tick(self, now):
            registry._activity.set()
            self.over = True
            return False

    busy = Busy(0)
    registry._wake(busy)
    until(lambda: looked and looked[-1])


def test_a_session_that_is_over_is_not_kept(registry):
    """It may have been woken after its end."""
    over = Sleeper(ACTIVE + 1, small=True)
    over.over = True
    registry._wake(over)
    until(lambda: over.ticks)
    until(lambda: not registry.sessions)


def test_a_datagram_in_a_long_turn_of_the_event_loop_brings_ticks(registry, clock, monkeypatch):
    """It is noted with the time at which the turn began, and the clock looks later than that."""
    with registry.session(1, Owner()) as session:

        def pause(seconds):
            gevent.sleep(seconds)
            if not said and 0.9 < clock.now - session.last_data < AWAKE:
                clock.now += ACTIVE - 0.5  # whoever comes before in this turn takes long
                said.append(gevent.spawn(session.note_datagram, 1, received=True))

        said = []
        give_gevent(monkeypatch, module, sleep=pause)
        session.note_datagram(1, received=True)
        until(lambda: said and said[0].ready())
        assert session in registry.active
