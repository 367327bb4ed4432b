"""Connections that have ended leave nothing to the garbage collector: a full collection stops a server for
tenths of a second, and connections come and go by the thousand."""

import gc
import socket

import gevent
import pytest

from lane.testing.harness import until
from tests.support.beds import making_beds

COUNT = 10


@pytest.fixture
def bed():
    with making_beds(ways=("cheap",)) as make:
        yield make()


def closed(bed):
    app = bed.application()
    app.sock.sendall(b"hello")
    assert app.sock.recv(100) == b"hello"
    app.sock.close()
    app.job.join()


def aborted(bed):
    app = bed.application()
    app.sock.sendall(b"hello")
    assert app.sock.recv(100) == b"hello"
    app.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    app.sock.close()
    app.job.join()


def carried_on(bed):
    app = bed.application()
    app.sock.sendall(b"hello")
    assert app.sock.recv(100) == b"hello"
    bed.ways["cheap"].drop()
    app.sock.sendall(b"again")
    assert app.sock.recv(100) == b"again"
    app.sock.close()
    app.job.join()


def of_lane(found):
    """Those that are neither the test kit's nor the tests' own."""
    module = type(found).__module__
    return isinstance(module, str) and module.startswith("lane.") and not module.startswith("lane.testing")


@pytest.mark.parametrize("end", [closed, aborted, carried_on])
def test_a_connection_leaves_no_garbage(bed, end):
    def ended():
        return not (len(bed.registry) or len(bed.server_registry) or bed.server_registry._aborting)

    end(bed)  # what is made once
    until(ended)
    gc.collect()
    gc.disable()
    try:
        for _ in range(COUNT):
            end(bed)
        until(ended)
        until(lambda: not bed.registry._aborting)
        gevent.idle()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = {type(found).__qualname__ for found in gc.garbage if of_lane(found)}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert kinds <= {"Failure"}, "which the test kit's carriers keep"
