"""What ended badly is remembered in few bytes, and no traceback lives on in what remembers it."""

import gc
import logging
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from gevent import socket

import lane
from lane.address import Address
from lane.carriers.connector import FastOpen
from lane.errors import LaneError, Status, TargetError
from lane.proto.hello import MAX_TEXT
from lane.server import resumption
from lane.testing.harness import until
from tests.support.beds import making_beds

REQUESTS = 640
OURS = [tracemalloc.Filter(True, f"{Path(lane.__file__).parent}/*"), tracemalloc.Filter(True, __file__)]
"""Where memory is allocated that counts: elsewhere are connections that other tests have left."""


@pytest.fixture
def beds():
    with making_beds(ways=("cheap",), grace=1000.0) as make:
        yield make


def refuse(bed, texts):
    """A refused request for each of `texts`, until nothing but what the server remembers is left of it."""
    way = bed.ways["cheap"]
    for text in texts:
        bed.dial = lambda _, text=text: (_ for _ in ()).throw(TargetError(Status.REFUSED, text))
        with pytest.raises(TargetError):
            bed.connect(Address("target.test", 80))
    ends = [end for carrier in way.carriers for end in (carrier, carrier.other)]
    until(lambda: not any(end._streams for end in ends))
    way.flights.clear()  # of the kit
    gc.collect()


@pytest.mark.bulk  # the tracer's own memory would count
@pytest.mark.parametrize(
    ("text", "most"),
    [("connection refused", 300), (f"{{:0{MAX_TEXT}}}", 550)],
    ids=["usual", "longest"],
)
def test_an_ended_session_costs_some_hundred_bytes(beds, text, most):
    bed = beds()

    def size():
        gc.collect()
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(OURS).traces)

    tracemalloc.start(1)
    try:
        refuse(bed, [text.format(number) for number in range(REQUESTS)])
        before = size()
        refuse(bed, [text.format(REQUESTS + number) for number in range(REQUESTS)])
        # On a busy machine timers of what has ended are left for a moment.
        until(lambda: (size() - before) / REQUESTS < most, lambda: f"{size() - before} bytes", pause=0.5)
    finally:
        tracemalloc.stop()
    assert len(bed.resumption) == 2 * REQUESTS
    assert most * resumption.MOST_ENDED < 40 << 20


def raised(before=()):
    """The errors of lane that something still holds with their tracebacks, but for those of `before`."""
    gc.collect()
    known = set(map(id, before))
    found = [one for one in gc.get_objects() if isinstance(one, LaneError) and one.__traceback__]
    return [error for error in found if id(error) not in known]


def abort(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def answer_until_asked_to_abort(sock):
    while (asked := sock.recv(1)) != b"!":
        sock.sendall(asked)
    abort(sock)


@pytest.mark.parametrize("fast_open", [FastOpen.OFF, FastOpen.ON])
def test_no_error_is_kept_with_its_traceback(beds, fast_open, caplog):
    caplog.set_level(logging.CRITICAL, "lane")  # pytest keeps what is logged
    before = raised()  # by other tests
    bed = beds(answer_until_asked_to_abort, fast_open=fast_open)
    way = bed.ways["cheap"]
    broken = [bed.application() for _ in range(3)]
    for app in broken:
        app.sock.sendall(b"?")
        assert app.sock.recv(1) == b"?"
    broken[0].sock.sendall(b"!")
    abort(broken[1].sock)
    for app in broken[:2]:
        app.job.join()
    way.cut()
    until(lambda: bed.resumption.waiting)
    with suppress(TargetError):
        bed.connect(Address("target.test", 80))
    until(lambda: bed.paths.snapshot()["lanes"][0]["alive"] is False)
    way.blocked = False
    until(lambda: broken[2].session.carried)
    bed.dial = lambda _: (_ for _ in ()).throw(TargetError(Status.REFUSED, "connection refused"))
    with suppress(TargetError):
        here, there = socket.socketpair()
        with here, there:
            bed.connect(Address("target.test", 80)).run(there, b"")
    assert [app.session.error is None for app in broken] == [False, False, True]
    assert len(bed.resumption) >= 2
    until(lambda: not raised(before))
