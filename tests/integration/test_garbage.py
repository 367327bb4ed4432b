"""Connections that have ended leave nothing to the garbage collector: a full collection stops a server for
tenths of a second, and connections come and go by the thousand."""

import gc
import socket

import gevent
import pytest
from lane_tls.plugin import TLSTransport

from lane.address import Address
from lane.errors import Closed
from lane.testing import client_tls, server_tls
from lane.testing.harness import outcome, until
from tests.support.beds import making_beds

COUNT = 10


@pytest.fixture
def bed():
    with making_beds(ways=("cheap",)) as make:
        yield make()


def heard(bed):
    """An application that has heard its target."""
    app = bed.application()
    app.sock.sendall(b"hello")
    assert app.sock.recv(100) == b"hello"
    return app


def closed(bed):
    app = heard(bed)
    app.sock.close()
    app.job.join()


def aborted(bed):
    app = heard(bed)
    app.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    app.sock.close()
    app.job.join()


def carried_on(bed):
    app = heard(bed)
    bed.ways["cheap"].drop()
    app.sock.sendall(b"again")
    assert app.sock.recv(100) == b"again"
    app.sock.close()
    app.job.join()


def of_lane(found):
    """Those that are neither the test kit's nor the tests' own."""
    module = type(found).__module__
    return isinstance(module, str) and module.startswith("lane.") and not module.startswith("lane.testing")


def left_by(action, ended, ours):
    """The kinds of objects that `COUNT` calls of `action` leave to the collector."""
    action()  # what is made once
    until(ended)
    gc.collect()
    gc.disable()
    try:
        for _ in range(COUNT):
            action()
        until(ended)
        gevent.idle()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return {type(found).__qualname__ for found in gc.garbage if ours(found)}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("end", [closed, aborted, carried_on])
def test_a_connection_leaves_no_garbage(bed, end):
    def ended():
        registries = (bed.registry, bed.server_registry)
        return not any(len(registry) or registry._aborting for registry in registries)

    kinds = left_by(lambda: end(bed), ended, of_lane)
    assert kinds <= {"Failure"}, "which the test kit's carriers keep"


def finished(near, far):
    near.finish()
    assert far.recv() == b""
    far.finish()
    assert near.recv() == b""
    near.close()
    far.close()


def broken(near, far):
    near.reset()
    assert isinstance(outcome(far.recv), Closed)
    assert isinstance(outcome(far.recv), Closed)
    assert isinstance(outcome(far.sendall, b"x"), Closed)
    far.close()


def cut(near, far):
    """By a peer that says nothing about TLS."""
    near.sock.shutdown(socket.SHUT_RDWR)
    assert isinstance(outcome(far.recv), Closed)
    far.close()
    near.close()


@pytest.mark.parametrize("end", [finished, broken, cut])
def test_a_tls_connection_leaves_no_garbage(end):
    """Its buffers are in OpenSSL, so the collector does not know how much that would be."""
    transport, tls = TLSTransport(), server_tls()
    listener = transport.listen(Address("127.0.0.1", 0), tls)

    def connect():
        accepting = gevent.spawn(listener.accept)
        carrier = transport.dial(listener.address, client_tls(tls))
        near, far = carrier.open(), accepting.get().accept()
        near.sendall(b"hello")
        assert far.recv() == b"hello"
        end(near, far)

    def ours(found):
        return type(found).__module__.startswith(("lane", "OpenSSL"))

    try:
        assert left_by(connect, lambda: True, ours) == set()
    finally:
        listener.close()
