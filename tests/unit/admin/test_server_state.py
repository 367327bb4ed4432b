from types import SimpleNamespace

import pytest

from lane.admin import server_state
from lane.admin.families import LAGS, SERVER
from lane.admin.server_state import OTHER, ServerState
from lane.server.carriers import Carriers
from lane.server.live import LiveSessions
from lane.server.numbers import Histogram
from lane.session.owner import Owner
from lane.session.registry import Registry
from lane.users.traffic import Traffic


class Moving(SimpleNamespace):
    """A session that only counts."""

    __hash__ = object.__hash__


class Bed:
    def __init__(self, workers=1):
        self.live = LiveSessions()
        self.traffic = Traffic(most_idle=1)
        self.server = SimpleNamespace(
            carriers=Carriers(self.live.numbers), traffic=self.traffic, online={"alice": {"one"}}
        )
        self.registry = Registry(1 << 16, 1 << 20, 60.0, 100, 100)
        waiting = SimpleNamespace(waiting=3)
        self.state = ServerState(
            self.server, self.live, self.registry, waiting, Histogram(LAGS), workers=workers
        )
        self.open = {}

    def move(self, user, up, down):
        """A session of `user` moves bytes; the first call begins it."""
        if user not in self.open:
            session = self.open[user] = Moving(moved=(0, 0), moved_elsewhere=(0, 0))
            self.traffic.begin(user, session, Owner())
        session = self.open[user]
        before_up, before_down = session.moved
        session.moved = before_up + up, before_down + down
        self.live.numbers.bytes["quic", "up"] += up
        self.live.numbers.bytes["quic", "down"] += down

    def end(self, user):
        self.traffic.end(user, self.open.pop(user))

    def users(self):
        state = self.state.collect()
        assert state.counters.keys() | state.gauges.keys() | state.histograms.keys() <= SERVER.keys()
        return state.counters["lane_user_bytes"], state.gauges["lane_user_sessions"]


@pytest.fixture
def bed(monkeypatch):
    monkeypatch.setattr(server_state, "MOST_USERS", 2)
    bed = Bed()
    yield bed
    bed.registry.close()


def test_users_beyond_the_limit_are_one(bed):
    for number, user in enumerate("abcd", 1):
        bed.move(user, number, 10 * number)
    found, sessions = bed.users()
    assert found == {
        ("a", "up"): 1, ("a", "down"): 10, ("b", "up"): 2, ("b", "down"): 20,
        (OTHER, "up"): 7, (OTHER, "down"): 70,
    }  # fmt: skip
    assert sessions == {("a",): 1, ("b",): 1, (OTHER,): 2}


def test_a_user_called_other_is_among_the_others(bed):
    bed.move(OTHER, 5, 5)
    bed.move("a", 1, 1)
    found, sessions = bed.users()
    assert (found[OTHER, "up"], found["a", "up"], sessions[(OTHER,)]) == (5, 1, 1)


def test_no_count_falls_when_users_go_and_are_forgotten(bed):
    before = {}
    for step in range(60):
        user = "abcdef"[step % 6]
        bed.move(user, step, 2 * step)
        if step % 4 == 3:
            bed.end(user)
        now, _ = bed.users()
        assert not {key for key, value in before.items() if now.get(key, 0) < value}
        assert sum(value for (_, way), value in now.items() if way == "up") == sum(range(step + 1))
        before = now


def test_workers_share_the_limit(monkeypatch):
    monkeypatch.setattr(server_state, "MOST_USERS", 2)
    bed = Bed(workers=2)
    bed.move("a", 1, 1)
    bed.move("b", 1, 1)
    assert {user for user, _ in bed.users()[0]} == {"a", OTHER}
    bed.registry.close()
