"""The client's pool of carriers, over transports of the kit: one stream a carrier (TCP) and many (memory)."""

from contextlib import suppress
from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event
from lane_tls.plugin import TLSTransport

from lane.address import Address
from lane.carriers import demand, shared_dials, spares
from lane.carriers import pool as pool_module
from lane.carriers import shared_dials as shared_dials_module
from lane.carriers.pool import LOOKS, Pool
from lane.errors import Closed, Refused, Unreachable
from lane.testing import MemoryTransport, TCPTransport, client_tls, server_tls
from lane.testing.harness import outcome, settled, until

HELLO = b"hello"


class Bed:
    """A pool, and the far side of all its carriers."""

    def __init__(self, transport):
        tls = server_tls()
        self.listener = transport.listen(Address("127.0.0.1", 0), tls)
        self.accepted, self.dials, self.failure = [], 0, None
        self.gate = Event()
        self.gate.set()

        def dial():
            self.dials += 1
            self.gate.wait()
            if self.failure:
                raise self.failure
            return transport.dial(self.listener.address, client_tls(tls))

        self.pool = Pool(dial, lambda carrier: HELLO, dial_timeout=5.0)
        self.acceptor = gevent.spawn(self.accept)

    def accept(self):
        while True:
            try:
                self.accepted.append(self.listener.accept())
            except Closed:
                return

    def close(self):
        self.pool.close()
        self.listener.close()
        for carrier in self.accepted:
            carrier.close()


@pytest.fixture
def bed(request, clock):
    bed = Bed(request.param())
    yield bed
    bed.close()


tls = pytest.mark.parametrize("bed", [TLSTransport], indirect=True, ids=["tls"])
tcp = pytest.mark.parametrize("bed", [TCPTransport], indirect=True, ids=["tcp"])
memory = pytest.mark.parametrize("bed", [MemoryTransport], indirect=True, ids=["memory"])
both = pytest.mark.parametrize("bed", [TCPTransport, MemoryTransport], indirect=True, ids=["tcp", "memory"])


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


def standing_by(bed):
    """Wait until all spares are there that one session calls for."""
    until(lambda: len(bed.pool._spares) == demand.COVER and len(bed.accepted) == 1 + demand.COVER)


@tcp
def test_spares_make_room_where_descriptors_are_scarce(bed, monkeypatch):
    bed.pool.lease()
    standing_by(bed)
    scarce = [True]
    monkeypatch.setattr(spares, "reserve", SimpleNamespace(has=lambda count: not scarce[0]))
    until(lambda: not bed.pool._spares)
    scarce[0] = False
    bed.pool._spares.refill()
    assert not bed.pool._spares._makers
    bed.pool._spares._paused_until -= spares.SCARCE
    bed.pool._spares.refill()
    until(lambda: len(bed.pool._spares) == demand.COVER)


@tcp
def test_spares_stand_by_and_are_handed_out_next(bed):
    first = bed.pool.lease()
    standing_by(bed)
    second = bed.pool.lease()
    assert not second.fresh
    assert second.carrier is not first.carrier
    second.send(b"request")
    said = [b""] * len(bed.accepted)

    def listen(number):
        stream = bed.accepted[number].accept()
        while more := stream.recv():
            said[number] += more

    jobs = [gevent.spawn(listen, number) for number in range(len(said))]
    until(lambda: sorted(said) == [b"", HELLO, HELLO, HELLO + b"request"])
    gevent.killall(jobs)


@tcp
def test_there_are_more_spares_than_sessions_began_in_the_busiest_second(bed, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(pool_module, "monotonic", lambda: now[0])
    leases = [bed.pool.lease() for _ in range(3)]
    until(lambda: len(bed.pool._spares) == 3 * demand.COVER)
    now[0] += 1
    more = [bed.pool.lease() for _ in range(3 * demand.COVER)]
    assert not any(lease.fresh for lease in more)
    for lease in leases + more:
        lease.discard()


@tcp
def test_spares_go_when_sessions_became_rare(bed, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(pool_module, "monotonic", lambda: now[0])
    monkeypatch.setattr(pool_module, "SWEEP", 0.01)
    bed.pool.close()
    bed.pool = Pool(bed.pool._dials._connect, lambda carrier: HELLO, dial_timeout=5.0)
    leases = [bed.pool.lease() for _ in range(4)]
    until(lambda: len(bed.pool._spares) == 4 * demand.COVER)
    now[0] += demand.HALF_LIFE
    until(lambda: len(bed.pool._spares) == 2 * demand.COVER)
    now[0] += demand.IDLE
    until(lambda: not bed.pool._spares)
    assert not any(lease.carrier.closed for lease in leases)


@tcp
def test_no_spare_is_made_while_a_session_waits(bed):
    bed.pool.lease()
    until(lambda: len(bed.pool._spares) == demand.COVER)
    dials = bed.dials + 20
    bed.gate.clear()
    waiting = [gevent.spawn(bed.pool.lease) for _ in range(20 + demand.COVER)]  # some take spares
    until(lambda: bed.dials >= dials)
    assert settled(lambda: bed.dials) == dials
    bed.gate.set()
    gevent.joinall(waiting)
    until(lambda: len(bed.pool._spares) == demand.MOST)


@tcp
def test_spares_are_made_a_few_at_a_time(bed):
    bed.pool.lease()
    bed.gate.clear()
    bed.pool._demand.spares = lambda now: 40
    bed.pool._spares.refill()
    until(lambda: bed.dials >= spares.MAKERS)
    assert bed.dials <= spares.MAKERS + 2
    bed.gate.set()
    until(lambda: len(bed.pool._spares) == 40)


@tcp
def test_a_stream_of_a_complete_session_is_used_again(bed):
    first = bed.pool.lease()
    first.send(b"one, ")
    stream = first.stream
    first.keep()
    first.release()  # it is no longer this one's to release
    second = bed.pool.lease()
    assert second.stream is stream
    assert not second.fresh
    second.send(b"two")
    until(lambda: bed.accepted)
    far, data = bed.accepted[0].accept(), b""
    while len(data) < len(HELLO + b"one, two"):
        data += far.recv()
    assert data == HELLO + b"one, two"


@tcp
def test_streams_that_come_back_are_bounded(bed, monkeypatch):
    monkeypatch.setattr(spares, "KEPT", 5)
    monkeypatch.setattr(pool_module, "LAST_WORDS", 0.01)
    leases = [bed.pool.lease() for _ in range(20)]
    bed.pool._demand.spares = lambda now: 0
    for lease in leases:
        lease.keep()
    until(lambda: sum(not lease.carrier.closed for lease in leases) <= 5)


@memory
def test_streams_of_a_shared_carrier_are_not_kept(bed):
    lease = bed.pool.lease()
    lease.send(b"!")
    until(lambda: bed.accepted)
    job = gevent.spawn(lease.keep)
    far = bed.accepted[0].accept()
    while far.recv():
        pass
    far.finish()
    job.join()
    assert not bed.pool._spares
    assert not bed.pool._leases[lease.carrier]


@tcp
def test_a_server_that_is_gone_is_not_asked_for_spares_all_the_time(bed, monkeypatch):
    monkeypatch.setattr(pool_module, "SWEEP", 0.01)
    bed.pool.close()
    bed.pool = Pool(bed.pool._dials._connect, lambda carrier: HELLO, dial_timeout=5.0)
    bed.pool.lease()
    until(lambda: len(bed.pool._spares) == demand.COVER)
    bed.failure = Unreachable("gone")
    for spare in list(bed.pool._spares):
        spare.carrier.close()
    until(lambda: bed.pool._spares._paused_until)
    dials = settled(lambda: bed.dials)
    assert dials <= 1 + 2 * demand.COVER
    bed.failure = None
    bed.pool._spares._paused_until = 0.0
    until(lambda: len(bed.pool._spares) == demand.COVER)


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


@tls
def test_a_spare_that_died_is_never_handed_out(bed):
    bed.pool.lease().send(b"")
    standing_by(bed)
    until(lambda: len(bed.accepted) == 1 + demand.COVER)
    bed.accepted[-1].close()
    until(lambda: any(spare.carrier.closed for spare in bed.pool._spares))
    leases = [bed.pool.lease() for _ in range(demand.COVER)]
    assert not any(lease.carrier.closed for lease in leases)


@tls
def test_spares_that_died_are_noticed_while_nobody_asks(bed):
    bed.pool.lease()
    standing_by(bed)
    old = {*bed.pool._spares}
    for carrier in bed.accepted:
        carrier.close()
    until(lambda: not old & {*bed.pool._spares})
    until(lambda: len(bed.pool._spares) == demand.COVER)


@tcp
def test_spares_are_given_up_after_a_while(bed, monkeypatch):
    monkeypatch.setattr(pool_module, "SWEEP", 60.0)
    bed.pool.close()
    bed.pool = Pool(bed.pool._dials._connect, lambda carrier: HELLO, dial_timeout=5.0)
    lease = bed.pool.lease()
    until(lambda: bed.pool._spares)
    lease.discard()
    gevent.sleep(demand.IDLE + spares.LIFE + 2 * pool_module.SWEEP)
    assert not bed.pool._spares
    assert not len(bed.pool)


@memory
def test_streams_share_a_carrier_until_it_is_full(bed):
    capacity = bed.pool.lease().carrier.capacity
    leases = [bed.pool.lease() for _ in range(capacity)]
    assert len({id(lease.carrier) for lease in leases}) == 1
    until(lambda: bed.dials == 2)  # full: another one is made before it is needed
    assert bed.pool.lease().carrier is not leases[0].carrier


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
    monkeypatch.setattr(shared_dials_module, "JOIN", joins)
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
def test_a_hundred_at_once_all_get_a_stream(bed):
    leases = [job.get() for job in [gevent.spawn(bed.pool.lease) for _ in range(100)]]
    assert len({id(lease.stream) for lease in leases}) == 100


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
