"""How a server that ends asks its clients to leave."""

from types import SimpleNamespace

import pytest

from lane.handover import server_parting as module
from lane.handover.server_parting import ServerParting
from tests.support.clock import FakeClock


class Session:
    def __init__(self):
        self.carried, self.asked = True, 0
        self.protocol = SimpleNamespace(resumable=True)

    def ask_to_move(self):
        self.asked += 1


class World:
    """A client that moves one session at each look, but for the last of them. It is the event as well."""

    requests = SimpleNamespace(leave=lambda: None)

    def __init__(self, clock):
        self.clock = clock
        self.sessions = [Session() for _ in range(50)]

    def is_set(self):
        return False

    def wait(self, seconds):
        self.clock.now += seconds
        if seconds == module.LOOK:
            staying = [session for session in self.sessions if session.carried]
            if len(staying) > 5 or staying[0].asked > 1:
                staying[0].carried = False
        return False

    def unused(self):
        return []


@pytest.mark.parametrize("timeout", [30.0, 3.0])
def test_clients_are_asked_again_only_once_nobody_moves(monkeypatch, timeout):
    monkeypatch.setattr(module, "monotonic", clock := FakeClock())
    world, began = World(clock), clock.now
    ServerParting(world, world, [], timeout).leave(None, world, "")
    asked = [session.asked for session in world.sessions]
    if timeout == 3.0:
        assert clock.now - began == pytest.approx(3.0, abs=2 * module.LOOK)
        assert asked == [1] * 50
    else:
        assert asked == [1] * 45 + [2] * 5
        assert 4.5 + module.ASK_AGAIN <= clock.now - began < 9
