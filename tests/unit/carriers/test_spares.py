"""The spares of a pool: how many there are, who gets them, and when they go."""

from types import SimpleNamespace

import gevent

from lane.carriers import demand, spares
from lane.carriers import pool as pool_module
from lane.carriers.pool import Pool
from lane.errors import Closed, Unreachable
from lane.testing.harness import settled, until
from lane.testing.memory import MemoryStream
from tests.support.pools import HELLO, memory, tcp, tls


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
def test_carriers_that_promise_a_stream_and_have_none_are_not_dialled_on_and_on(bed, monkeypatch):
    def refuse(carrier):
        raise Closed("no stream after all")

    monkeypatch.setattr(type(bed.pool.lease().carrier), "open", refuse)
    bed.pool._spares.refill()
    until(lambda: not bed.pool._spares._makers)
    assert bed.dials <= 1 + demand.COVER + spares.MAKERS


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
def test_streams_of_a_shared_carrier_are_not_kept_if_they_cannot_say_that_they_are_at_rest(bed, monkeypatch):
    monkeypatch.delattr(MemoryStream, "renew")
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
    assert not bed.pool._standby
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
