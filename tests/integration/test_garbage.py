"""Connections that have ended leave nothing to the garbage collector: a full collection stops a server for
tenths of a second, and connections come and go by the thousand."""

import gc
import socket
from collections import Counter
from types import SimpleNamespace
from unittest.mock import patch

import gevent
import pytest
from lane_quic.plugin import QuicTransport
from lane_tls.plugin import TLSTransport

from lane.address import Address
from lane.egress.rules import RouteRule, RouteTable
from lane.errors import Closed, Refused, Status, TargetError, Unreachable
from lane.inbound.routes import Routes
from lane.inbound.udp_forward import UdpForward
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


def refused(bed):
    def dial(_):
        raise TargetError(Status.REFUSED, "nobody listens there")

    with patch.object(bed, "dial", dial), pytest.raises(TargetError, match="nobody"):
        bed.connect(Address("target.test", 80))


def packets(bed):
    """A source of packets, by way of the rules."""
    rules = RouteTable([RouteRule.parse("block ads.example")])
    routes = Routes(bed.connector, SimpleNamespace(associate=print), rules, None)
    forward = UdpForward(
        Address("127.0.0.1", 0), Address("target.test", 53), routes, idle_timeout=60.0, most=10
    )
    forward.start()
    with gevent.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", tuple(forward.address))
        assert sock.recv(100) == b"hello"
    forward.close()
    forward.kill()
    until(bed.worlds.pop().closed.is_set)


def of_a_transport(found):
    module = type(found).__module__
    return isinstance(module, str) and module.startswith(("lane", "aioquic", "OpenSSL"))


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
        kinds = Counter(type(found).__qualname__ for found in gc.garbage if ours(found))
        return {kind for kind, number in kinds.items() if number >= COUNT}  # fewer: of a test before this
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("end", [closed, aborted, carried_on, refused, packets])
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


def left_by_connections(transport, end, ended=lambda listener: True):
    """The kinds of objects that connections leave that end as `end`, with both ends of a stream, has it."""
    tls = server_tls()
    listener = transport.listen(Address("127.0.0.1", 0), tls)

    def connect():
        accepting = gevent.spawn(listener.accept)
        carrier = transport.dial(listener.address, client_tls(tls))
        near, other = carrier.open(), accepting.get()
        near.sendall(b"hello")
        far = other.accept()
        assert far.recv() == b"hello"
        end(near, far, carrier, other)

    try:
        return left_by(connect, lambda: ended(listener), of_a_transport)
    finally:
        listener.close()


@pytest.mark.parametrize("end", [finished, broken, cut])
def test_a_tls_connection_leaves_no_garbage(end):
    """Its buffers are in OpenSSL, so the collector does not know how much that would be."""
    assert left_by_connections(TLSTransport(), lambda near, far, *_: end(near, far)) == set()


def closed_here(near, far, carrier, other):
    near.finish()
    assert far.recv() == b""
    carrier.open().sendall(b"nobody accepts it")
    carrier.datagrams.hand_to(lambda _: carrier.peer)
    other.datagrams.send(b"datagram")
    gevent.idle()
    carrier.close()


def closed_by_the_peer(near, far, carrier, other):
    reading = gevent.spawn(outcome, near.recv)
    other.close()
    assert isinstance(reading.get(), Closed)
    near.close()
    far.close()


def silent(near, far, carrier, other):
    for end in (carrier, other):
        end.engine.handle_timer(end.engine._close_at)
        end.flush()
    assert carrier.closed


def reset(near, far, carrier, other):
    other.fail(Closed("the server was killed"))
    near.sendall(b"are you there?")
    assert "restarted" in str(outcome(near.recv))


def moved(near, far, carrier, other):
    carrier._owner.on_silence(carrier)
    near.sendall(b"from another port")
    assert far.recv()
    near.reset()
    carrier.close()


@pytest.mark.parametrize("end", [closed_here, closed_by_the_peer, silent, reset, moved])
def test_a_quic_connection_leaves_no_garbage(end):
    assert left_by_connections(QuicTransport(), end, lambda listener: not listener._carriers) == set()


@pytest.mark.parametrize("transport", [TLSTransport(), QuicTransport()], ids=["tls", "quic"])
@pytest.mark.parametrize("error", [Refused, Unreachable])
def test_a_dial_that_fails_leaves_no_garbage(transport, error):
    tls = server_tls()
    listener = transport.listen(Address("127.0.0.1", 0), tls)
    address, tls = listener.address, client_tls(server_tls() if error is Refused else tls)
    if error is Unreachable:
        listener.close()

    def dial():
        with pytest.raises(error):
            transport.dial(address, tls)

    try:
        assert left_by(dial, lambda: not getattr(listener, "_carriers", ()), of_a_transport) == set()
    finally:
        listener.close()
