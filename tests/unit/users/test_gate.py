"""A user's gate: the rate of all who pass it, in equal parts, and what ends a wait. The time is virtual."""

from collections import Counter

import gevent
import pytest

from lane.users.bucket import DEPTH, Bucket, Shared
from lane.users.gate import LARGEST, LEAST_PIECE, OPEN, Gate
from tests.support.virtual_time import virtual_time


class Flow:
    over = False


def pump(gate, one, got, size=None):
    while not one.over:
        piece = size or gate.piece
        gate.pay(one, piece)
        got[one] += piece


@pytest.fixture
def clock():
    with virtual_time() as clock:
        yield clock


def test_all_flows_keep_to_the_rate_together_and_in_equal_parts(clock):
    gate, got, flows = Gate(), Counter(), [Flow() for _ in range(20)]
    gate.limit(1e7)
    jobs = [
        gevent.spawn(pump, gate, one, got, size) for one, size in zip(flows, [14600, 90000] * 10, strict=True)
    ]
    gevent.sleep(2)
    gevent.killall(jobs)
    assert sum(got.values()) == pytest.approx(2e7, rel=0.03)
    assert max(got.values()) - min(got.values()) <= DEPTH * 1e7 + 2 * 90000


def test_it_is_smooth(clock):
    gate, got, one = Gate(), Counter(), Flow()
    gate.limit(1e6)
    gevent.sleep(5)  # a pause saves up nothing
    job = gevent.spawn(pump, gate, one, got)
    for _ in range(5):
        before = got[one]
        gevent.sleep(0.1)
        assert 0.85e5 <= got[one] - before <= 1e5 * 1.15 + DEPTH * 1e6
    job.kill()


def test_a_new_rate_holds_at_once_for_those_who_wait(clock):
    gate, got, one = Gate(), Counter(), Flow()
    gate.limit(20000)
    job = gevent.spawn(pump, gate, one, got, 1000)
    gevent.sleep(1)
    gate.limit(1e5)
    got.clear()
    gevent.sleep(1)
    assert got[one] == pytest.approx(1e5, rel=0.07)
    waiting = gevent.spawn(gate.pay, Flow(), 1 << 30)
    gevent.sleep(0.1)
    one.over = True
    gate.limit(None)
    gevent.joinall([job, waiting], timeout=1)
    assert job.ready()
    assert waiting.ready()
    assert (gate.limited, gate.piece) == (False, LARGEST)


def test_the_end_of_a_flow_wakes_it_and_costs_the_others_nothing(clock):
    gate, ends, stays = Gate(), Flow(), Flow()
    gate.limit(1000)
    gate.pay(stays, 10000)
    jobs = [gevent.spawn(gate.pay, one, 1 << 20) for one in (ends, stays)]
    gevent.sleep(0.1)
    ends.over = True
    gate.leave(ends)
    gevent.sleep(0)
    assert [job.ready() for job in jobs] == [True, False]
    gevent.sleep(11)
    assert jobs[1].ready()


def test_a_wait_that_is_cut_off_leaves_nothing_in_line(clock):
    gate, one = Gate(), Flow()
    gate.limit(1000)
    gate.pay(one, 5000)
    with gevent.Timeout(0.5, False):
        gate.pay(one, 1 << 30)
    assert len(gate._waiting) == 0
    begun = clock.now
    gate.pay(one, 1)
    assert clock.now - begun < 5


def test_workers_share_a_rate_by_their_sessions(clock):
    shared, got = Shared(2), Counter()
    gates = [Gate(lambda worker=worker: shared.bucket("ann", worker), shared=True) for worker in range(2)]
    flows = [Flow() for _ in range(4)]
    for gate in gates:
        gate.limit(1e6)
    jobs = [gevent.spawn(pump, gates[number > 0], one, got, 20_000) for number, one in enumerate(flows)]
    gevent.sleep(4)
    gevent.killall(jobs)
    assert sum(got.values()) == pytest.approx(4e6, rel=0.03)
    assert min(got.values()) > 0.13 * 4e6  # of 0.25


def test_a_gate_looks_for_another_bucket_when_its_own_is_lost(clock):
    class Lost(Bucket):
        lost = True

    found = []

    def find():
        found.append(Bucket() if found else Lost())
        return found[-1]

    gate = Gate(find)
    gate.limit(1000)
    for _ in range(5):
        gate.pay(Flow(), 1)
    assert len(found) == 2


def test_pieces_fit_the_rate():
    gate = Gate()
    for rate, piece in ((1, LEAST_PIECE), (1e6, 10000), (1e12, LARGEST)):
        gate.limit(rate)
        assert gate.piece == piece
    assert not OPEN.up.limited
    assert not OPEN.down.limited
