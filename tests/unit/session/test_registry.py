"""The clock that a registry keeps for its sessions: who needs it is looked at, thousands who rest are not."""

import pytest

from lane.session import registry as module
from lane.session.registry import Registry
from lane.session.session import ACTIVE, IDLE
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
