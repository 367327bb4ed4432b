"""The client's pool of carriers: who gets a stream on which, and what is closed."""

import gevent
import pytest

from lane.carriers.pool import LOOKS
from lane.errors import Closed, Unreachable
from lane.testing.harness import until
from tests.support.pools import HELLO, both, memory, tcp


@both
def test_what_a_lease_sends_first_stands_behind_hello(bed):
    lease = bed.pool.lease()
    lease.send(b"request")
    lease.send(b", and more")
    until(lambda: bed.accepted)
    stream = bed.accepted[0].accept()
    expected, data = HELLO + b"request, and more", b""
    while len(data) < len(expected):
        data += stream.recv()
    assert data == expected
    assert lease.fresh
    lease.discard()
    lease.release()  # idempotent


@tcp
def test_a_new_session_does_not_look_at_all_others(bed):
    leases = [bed.pool.lease() for _ in range(50)]
    asked = []

    class Watched(type(leases[0].carrier)):
        @property
        def capacity(self):
            asked.append(self)
            return super().capacity

    for lease in leases:
        lease.carrier.__class__ = Watched
    bed.pool.lease()
    assert len(set(asked)) <= 1


@memory
def test_streams_share_a_carrier_until_it_is_full(bed):
    capacity = bed.pool.lease().carrier.capacity
    leases = [bed.pool.lease() for _ in range(capacity)]
    assert len({id(lease.carrier) for lease in leases}) == 1
    until(lambda: bed.dials == 2)  # full: another one is made before it is needed
    assert bed.pool.lease().carrier is not leases[0].carrier


@both
def test_a_hundred_at_once_all_get_a_stream(bed):
    leases = [job.get() for job in [gevent.spawn(bed.pool.lease) for _ in range(100)]]
    assert len({id(lease.stream) for lease in leases}) == 100


@both
def test_a_dead_carrier_is_replaced(bed):
    first = bed.pool.lease()
    first.send(b"")
    until(lambda: bed.accepted)
    for carrier in bed.accepted:
        carrier.close()
    with pytest.raises(Closed):
        first.stream.recv()
    first.discard()
    lease = bed.pool.lease()
    assert lease.carrier is not first.carrier
    assert not lease.carrier.closed


@tcp
def test_a_carrier_that_nobody_uses_any_more_is_closed(bed):
    lease = bed.pool.lease()
    lease.send(b"")
    until(lambda: bed.accepted)
    lease.stream.finish()
    lease.release()
    stream = bed.accepted[0].accept()
    assert stream.recv(5) == HELLO
    assert stream.recv() == b""
    until(lambda: not len(bed.pool) or lease.carrier not in bed.pool._leases)


@both
def test_a_closed_pool_dials_no_more(bed):
    bed.pool.lease()
    bed.pool.close()
    with pytest.raises(Unreachable):
        bed.pool.lease(fresh=True)


@both
def test_a_server_that_closes_at_once_is_not_dialled_again_and_again(bed, monkeypatch):
    dial = bed.pool._dials._connect

    def dead():
        carrier = dial()
        carrier.close()
        return carrier

    bed.pool._dials._connect = dead
    with pytest.raises(Unreachable, match="at once"):
        bed.pool.lease()
    assert bed.dials == 1
    assert not len(bed.pool)


class Roomy:
    """A carrier with `capacity`. `asked` counts who wanted to know."""

    closed, asked = False, 0

    def __init__(self, capacity):
        self._capacity = capacity

    @property
    def capacity(self):
        Roomy.asked += 1
        return self._capacity


@memory
def test_a_stream_is_found_without_asking_all_carriers(bed, monkeypatch):
    """After a peak there are hundreds that have room."""
    monkeypatch.setattr(Roomy, "asked", 0)
    full, roomy = [Roomy(0) for _ in range(100)], [Roomy(1 + number % 9) for number in range(504)]
    bed.pool._roomy.update(dict.fromkeys([*full, *roomy]))
    assert bed.pool._least_loaded()._capacity == LOOKS  # the best of the first
    assert Roomy.asked == len(full) + LOOKS  # what is full is asked only once
    found = [bed.pool._least_loaded() for _ in range(100)]
    assert Roomy.asked == len(full) + 101 * LOOKS
    assert min(carrier._capacity for carrier in found) >= LOOKS
    assert len({*found}) > 50


@memory
def test_of_a_few_carriers_the_one_with_the_most_room_is_taken(bed):
    roomy = [Roomy(number) for number in (3, 0, 5, 2)]
    bed.pool._roomy.update(dict.fromkeys(roomy))
    assert {bed.pool._least_loaded() for _ in range(5)} == {roomy[2]}
    bed.pool._roomy.clear()
    assert bed.pool._least_loaded() is None


@tcp
def test_who_dials_gets_the_stream_before_those_who_come_later(bed):
    """Else one who is overtaken often enough would fail, though each dial succeeds."""
    bed.pool._share = 1
    bed.gate.clear()
    first = gevent.spawn(bed.pool.lease)
    until(lambda: bed.dials == 1)
    late = []

    def made(carrier, waiting):
        add(carrier, waiting)
        late.append(bed.pool.lease_at_once())

    add, bed.pool._dials._made = bed.pool._add, made
    bed.gate.set()
    lease = first.get()
    assert late == [None]
    assert bed.pool._leases[lease.carrier] == 1
    assert bed.dials == 1


@tcp
def test_a_stream_whose_dialler_has_gone_is_for_others(bed, monkeypatch):
    bed.pool._share = 1
    bed.gate.clear()
    first = gevent.spawn(bed.pool.lease)
    until(lambda: bed.dials == 1)
    first.kill()
    bed.gate.set()
    until(lambda: len(bed.pool) == 1)
    assert bed.pool.lease_at_once() is not None
