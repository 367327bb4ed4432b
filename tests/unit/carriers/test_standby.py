"""Streams that stand by between two sessions, on carriers with many streams."""

import gevent
import pytest

from lane.carriers import standby
from lane.carriers.standby import KEPT, LIFE
from lane.errors import Closed
from lane.testing.harness import until
from tests.support.pools import HELLO, memory, tcp


def used(bed, count=1):
    """Leases whose sessions are complete, and the far ends of their streams."""
    found = []
    for _ in range(count):
        lease = bed.pool.lease()
        lease.send(b"request")
        until(lambda: bed.accepted)
        far = bed.accepted[0].accept()
        assert far.recv() == HELLO + b"request"
        found.append((lease, far))
    return found


@memory
def test_the_next_session_takes_the_stream_of_the_last_one(bed):
    ((lease, far),) = used(bed)
    lease.keep()
    following = bed.pool.lease()
    assert following.stream is lease.stream
    assert not following.fresh
    following.send(b"another")
    assert far.recv() == b"another"  # without HELLO
    assert bed.pool.lease().stream is not lease.stream


@memory
@pytest.mark.parametrize("end", ["finish", "reset", "sendall"])
def test_a_stream_that_cannot_go_on_is_left_alone(bed, end):
    ((lease, far),) = used(bed)
    lease.keep()
    getattr(far, end)(*[b"what no session asked for"] * (end == "sendall"))
    assert bed.pool.lease().stream is not lease.stream
    assert bed.dials == 1


@memory
def test_a_stream_whose_last_bytes_may_be_lost_is_left_until_they_have_arrived(bed):
    ((lease, far),) = used(bed)
    lease.stream.sendall(b"the end")
    lease.keep()
    assert bed.pool.lease().stream is not lease.stream
    assert far.recv() == b"the end"
    assert bed.pool.lease().stream is lease.stream


@memory
def test_a_stream_that_fails_to_answer_carries_no_session(bed, monkeypatch, caplog):
    ((lease, _),) = used(bed)
    lease.keep()
    monkeypatch.setattr(lease.stream, "renew", lambda: 1 // 0)
    assert bed.pool.lease().stream is not lease.stream
    assert "a stream that was asked whether it is at rest failed" in caplog.text


@memory
def test_few_streams_stand_by(bed):
    pairs = used(bed, KEPT + 1)
    endings = [gevent.spawn(lease.keep) for lease, _ in pairs]
    until(lambda: sum(job.ready() for job in endings) == KEPT)
    assert len(bed.pool._standby) == KEPT
    assert pairs[-1][1].recv() == b""
    pairs[-1][1].finish()
    gevent.joinall(endings, raise_error=True)


@memory
def test_a_stream_that_nobody_takes_ends_in_good_order(bed, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(standby, "monotonic", lambda: now[0])
    (first, early), (second, late) = used(bed, 2)
    first.keep()
    now[0] += LIFE - 1
    second.keep()
    now[0] += 2
    assert early.recv() == b""
    early.finish()
    capacity = second.carrier.capacity
    until(lambda: bed.pool._leases[second.carrier] == 1)
    assert second.carrier.capacity >= capacity
    assert len(bed.pool._standby) == 1
    assert bed.pool.lease().stream is second.stream
    assert not late._in.finished


@memory
def test_a_full_carrier_has_the_streams_that_stand_by(bed):
    ((lease, _),) = used(bed)
    carrier = lease.carrier
    leases = [bed.pool.lease() for _ in range(carrier.capacity)]
    lease.keep()
    assert not carrier.capacity
    assert bed.pool.ready
    assert bed.pool.room(carrier) == 1
    assert bed.pool.lease().stream is lease.stream
    assert len({one.stream for one in leases}) == len(leases)


@memory
def test_a_full_carrier_is_not_forgotten_because_its_streams_were_not_at_rest_yet(bed, monkeypatch):
    now = standby.monotonic()
    monkeypatch.setattr(standby, "monotonic", lambda: now)  # else they end, which makes room as well
    ((lease, far),) = used(bed)
    leases = [bed.pool.lease() for _ in range(lease.carrier.capacity)]
    lease.stream.sendall(b"the end")
    lease.keep()
    assert bed.pool.lease().carrier is not lease.carrier
    assert far.recv() == b"the end"
    until(lambda: bed.pool.room(lease.carrier) == 1)
    assert len({one.stream for one in leases}) == len(leases)


@memory
def test_streams_of_a_distrusted_carrier_stand_by_no_longer(bed):
    (lease, far), (other, _) = used(bed, 2)
    lease.keep()
    other.distrust()
    with pytest.raises(Closed):
        far.recv()
    assert not bed.pool._standby
    assert bed.pool.lease().carrier is not lease.carrier
    other.discard()
    until(lambda: lease.carrier.closed)


@memory
def test_a_carrier_that_has_died_is_forgotten_with_its_streams(bed, monkeypatch):
    ((lease, _),) = used(bed)
    lease.keep()
    for carrier in bed.accepted:
        carrier.close()
    assert bed.pool.lease().carrier is not lease.carrier
    now = standby.monotonic() + LIFE + 1
    monkeypatch.setattr(standby, "monotonic", lambda: now)
    until(lambda: lease.carrier not in bed.pool._leases)
    assert not bed.pool._standby


@memory
def test_a_closed_pool_lets_no_stream_stand_by(bed):
    (lease, far), (other, end) = used(bed, 2)
    lease.keep()
    bed.pool.close()
    assert not bed.pool._standby
    other.keep()
    assert not bed.pool._standby
    for stream in (far, end):
        with pytest.raises(Closed):
            stream.recv()


@tcp
def test_the_stream_of_a_carrier_with_one_is_a_spare(bed):
    ((lease, _),) = used(bed)
    lease.keep()
    assert not bed.pool._standby
    until(lambda: lease.stream in [spare.stream for spare in bed.pool._spares])
