"""Packets of a user with a rate: what fits goes on in order, what does not is dropped, the oldest first."""

import gevent
import pytest

from lane.address import Address
from lane.users.gate import Gate
from lane.users.packet_line import LEAST, PacketLine
from tests.support.virtual_time import virtual_time

HERE = Address("127.0.0.1", 9)


class Flow:
    over = False


@pytest.fixture
def clock():
    with virtual_time() as clock:
        yield clock


def test_packets_beyond_the_rate_are_dropped_after_a_short_queue(clock):
    gate, passed = Gate(), []
    gate.limit(1e5)
    line = PacketLine(gate, Flow(), lambda address, payload: passed.append(int.from_bytes(payload)))
    dropped = 0
    for number in range(300):  # 1 s at three times the rate
        dropped += line.add(HERE, number.to_bytes(1000))
        gevent.sleep(1 / 300)
    assert len(passed) == pytest.approx(100, rel=0.07)
    assert passed == sorted(passed)
    assert 300 - passed[-1] < 60  # it does not lag behind
    gevent.sleep(1)
    assert len(passed) + dropped == 300


def test_the_queue_is_bounded_and_the_end_of_its_session_empties_nothing_to_the_target(clock):
    gate, passed, flow = Gate(), [], Flow()
    gate.limit(1000)
    line = PacketLine(gate, flow, lambda address, payload: passed.append(payload))
    dropped = sum(line.add(HERE, bytes(1000)) for _ in range(10_000))
    assert 10_000 - dropped <= LEAST / 1000 + 1
    gevent.sleep(0.1)
    sent = len(passed)
    flow.over = True
    gate.leave(flow)
    gevent.sleep(10)
    assert len(passed) == sent
