"""A connection whose path is known: it sends scouts, once for each path, and its controller may jump."""

import pytest
from lane_quic.congestion.careful_resume import INITIAL_WINDOW, SCOUT_SIZE, Phase
from lane_quic.congestion.controllers import CONTROLLERS

from lane.net.path_memory import PathMemory
from tests.support.quic_pipe import Pipe

SCOUTS = INITIAL_WINDOW // SCOUT_SIZE
RTT = 0.04
"""Of the pipe, seconds."""


class Known:
    """A memory for both sides of a pipe, which counts what it is asked for."""

    def __init__(self, rate=None):
        self.memory = PathMemory(lambda: 0.0)
        self.asked = []
        if rate:
            self.memory.to("peer").learn(rate, RTT, 0.0)

    def __call__(self, address):
        self.asked.append(address)
        return self.memory.to("peer")


def connected(known, lose=0, **arguments):
    """A pipe whose server knows the path, and the scouts that it has sent. The first `lose` are lost."""
    pipe, scouts = Pipe(**arguments), []
    pipe.server.engine.known_path = known

    def dropped(datagram):
        scout = len(datagram) == SCOUT_SIZE and datagram[0] < 0x80  # no other short packet is so long
        scouts.extend([datagram] * scout)
        return scout and len(scouts) <= lose

    pipe.dropped = dropped
    pipe.connect().settle(1.0)
    return pipe, scouts


def test_on_a_known_path_an_initial_window_of_scouts_follows_the_handshake():
    known = Known(10e6)
    pipe, scouts = connected(known)
    assert 0 < len(scouts) <= SCOUTS
    controller = pipe.server.engine.loss.controller
    assert known.asked == ["peer"]
    assert controller._resume.phase is Phase.RECONNAISSANCE
    assert controller.window == pytest.approx(10e6 * RTT / 2, rel=0.01)


def test_scouts_are_sent_once():
    known = Known(10e6)
    pipe, scouts = connected(known)
    before = len(scouts)
    for _ in range(5):
        pipe.server.engine.send_ping(0)
        pipe.settle(0.5)
    assert len(scouts) == before


def test_on_an_unknown_path_there_are_none_until_it_is_known():
    known = Known()
    pipe, scouts = connected(known)
    assert not scouts
    known.memory.to("peer").learn(10e6, RTT, 0.0)  # by another carrier
    pipe.server.engine.send_ping(0)
    pipe.settle(1.0)
    assert scouts
    assert pipe.server.engine.loss.controller.window > 100_000


def test_a_lost_scout_forbids_the_jump():
    pipe, scouts = connected(Known(10e6), lose=1)
    assert scouts
    assert pipe.server.engine.loss.controller.window < 100_000


def test_after_a_migration_the_new_path_is_looked_up_and_scouted():
    known = Known(10e6)
    pipe, scouts = connected(known)
    before = len(scouts)
    pipe.client.engine.known_path = known
    pipe.client.engine.move()
    assert known.asked == ["peer", "server"]
    pipe.server.engine._start_anew()
    pipe.server.engine.send_ping(0)
    pipe.settle(1.0)
    assert len(scouts) > before


@pytest.mark.parametrize("control", ["cubic", "reno"])
def test_controllers_that_cannot_resume_are_left_alone(control):
    known = Known(10e6)
    _, scouts = connected(known, control=CONTROLLERS[control])
    assert (known.asked, scouts) == ([], [])
