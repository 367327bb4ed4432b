"""Dials that sessions wait for together, and those that fail or take too long."""

from contextlib import suppress

import gevent
import pytest
from gevent.event import Event

from lane.carriers import pool as pool_module
from lane.carriers import shared_dials
from lane.errors import Refused, Unreachable
from lane.testing.harness import outcome, until
from tests.support.pools import both, memory


@memory
def test_sessions_wait_for_one_handshake_together(bed):
    bed.gate.clear()
    jobs = [gevent.spawn(bed.pool.lease) for _ in range(pool_module._SHARED)]
    until(lambda: bed.dials)
    bed.gate.set()
    assert len({id(job.get().carrier) for job in jobs}) == 1
    assert bed.dials == 1


@memory
@pytest.mark.parametrize("joins", [0.0, 60.0], ids=["it is old", "the network has changed"])
def test_a_dial_that_may_hang_is_not_joined(bed, monkeypatch, joins):
    monkeypatch.setattr(shared_dials, "JOIN", joins)
    bed.gate.clear()
    jobs = [gevent.spawn(bed.pool.lease)]
    until(lambda: bed.dials == 1)
    if joins:
        bed.pool.network_changed()
    jobs.append(gevent.spawn(bed.pool.lease))
    until(lambda: bed.dials == 2)
    bed.gate.set()
    assert len({id(job.get().carrier) for job in jobs}) == 2


@both
@pytest.mark.parametrize("failure", [Unreachable("nobody"), Refused("not you")], ids=["lost", "refused"])
def test_a_failed_dial_fails_all_who_waited_and_no_one_later(bed, failure):
    bed.failure = failure
    jobs = [gevent.spawn(outcome, bed.pool.lease) for _ in range(5)]
    found = [job.get() for job in jobs]
    assert {(type(error), str(error)) for error in found} == {(type(failure), str(failure))}
    assert len({*found, failure}) == 6, "each has its own: what is raised grows"
    bed.failure = None
    assert bed.pool.lease().stream


@both
def test_a_transport_that_breaks_is_unreachable(bed):
    bed.failure = ValueError("a bug")
    with pytest.raises(Unreachable, match="a bug"):
        bed.pool.lease()


@both
def test_a_transport_that_never_gives_up_holds_up_nobody(bed, monkeypatch):
    monkeypatch.setattr(shared_dials, "OVERDUE", 0.05)
    bed.pool._dials._timeout = 0.05
    dial, gate = bed.pool._dials._connect, Event()

    def stubborn():
        with suppress(Unreachable):  # the deadline's
            gate.wait()
        gate.wait()
        return dial()

    bed.pool._dials._connect = stubborn
    with pytest.raises(Unreachable, match="in time"):
        bed.pool.lease()
    bed.pool._dials._connect = dial
    assert bed.pool.lease().stream
    gate.set()
    until(lambda: len(bed.accepted) >= 2)


@both
def test_a_dial_that_takes_too_long_is_unreachable(bed):
    bed.gate.clear()
    bed.pool._dials._timeout = 0.05
    with pytest.raises(Unreachable, match="in time"):
        bed.pool.lease()
