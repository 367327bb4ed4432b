"""What a lane makes of the silence of its sessions."""

from types import SimpleNamespace

import pytest

from lane.carriers.lanes import Lane
from lane.session.liveness import Liveness

NOW = 100.0


@pytest.fixture
def lane():
    """A lane whose probe has had no answer for long, either."""
    lanes = SimpleNamespace(heard=None, probed=None, observer=SimpleNamespace(paths_changed=lambda: None))
    made = Lane("cheap", 1.0, None, lanes)
    made.probe.alive, made.probe._unanswered = True, NOW - 50
    yield made
    made.probe.close()


def session(heard, asked=None):
    """A session that heard something so many seconds ago, and asked so many seconds ago."""
    liveness = Liveness(NOW - 60)
    if asked is not None:
        liveness.ask(NOW - asked)
    liveness.heard = NOW - heard
    return SimpleNamespace(
        protocol=SimpleNamespace(liveness=liveness),
        asking=liveness.asked,
        silence=liveness.silence,
        backlog=liveness.waiting,
    )


def test_a_session_that_has_not_asked_does_not_vouch_for_its_lane(lane):
    def figures(*sessions):
        found = lane.figures(NOW, sessions)
        return round(found.silent, 3), round(found.backlog, 3)

    assert figures(session(4.0)) == (0, 0), "nobody has asked"
    assert figures(session(4.0), session(2.0, asked=1.0)) == (1.0, 0)
    assert figures(session(0.5), session(2.0, asked=1.0)) == (0.5, 0), "one hears something"
    assert figures(session(0.1, asked=3.0)) == (0.1, 3.0), "an answer waits behind data"
