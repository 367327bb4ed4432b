"""Resumed TLS sessions: they happen, the certificate is judged all the same, and they harm nobody."""

from contextlib import suppress

import gevent
import pytest
from gevent import socket
from lane_tls import context as context_module
from lane_tls.plugin import TLSTransport
from OpenSSL import SSL

from lane.errors import ConfigError, Refused
from lane.stream import Address
from lane.testing import client_tls, server_tls
from lane.testing.harness import until
from tests.support.tls_peer import CLIENT, IDENTITY, LOOPBACK


def talk(transport, listener, tls=CLIENT):
    """One connection on which the server says something: whether it was resumed."""
    near = transport.dial(listener.address, tls)
    while (far := listener.accept()).closed:
        far.close()  # it did not know the session, so the client has dialled again
    far.accept().sendall(b"hello")
    stream = near.open()
    assert stream.recv() == b"hello"
    was = stream.resumed
    assert was == far._stream.resumed
    near.close()
    far.close()
    return was


def forget(listener):
    """What a client that went away left at the server, if the server got as far as that."""
    until(lambda: not listener._shaking)
    while not listener._ready.empty():
        listener.accept().close()


def test_the_second_connection_resumes_the_first(listener):
    transport = TLSTransport()
    assert [talk(transport, listener) for _ in range(4)] == [False, True, True, True]


def test_a_session_is_good_for_a_while(listener, monkeypatch):
    """Whoever has a fresh one does not read those of the next connections."""
    transport, now = TLSTransport(), [0.0]
    monkeypatch.setattr(context_module, "monotonic", lambda: now[0])
    kept = []
    for now[0] in (0, context_module.FRESH - 1, context_module.FRESH, context_module.FRESH + 1):
        near = transport.dial(listener.address, CLIENT)
        far = listener.accept()
        wanted = near._stream.connection is not None
        far.accept().sendall(b"hello")
        assert near.open().recv() == b"hello"
        ((session, *_),) = transport._dialer.sessions._kept.values()
        kept.append(session)
        assert wanted == (len(kept) in (1, 3))
        near.close()
        far.close()
    assert (kept[0] is kept[1], kept[1] is kept[2], kept[2] is kept[3]) == (True, False, True)


def test_the_pin_is_checked_on_a_resumed_connection(listener):
    transport = TLSTransport()
    talk(transport, listener)
    asked = []

    class Judge:
        server_name = None

        def verify(self, chain):
            asked.append(chain)
            raise Refused("not this one")

    with pytest.raises(Refused, match="not this one"):
        transport.dial(listener.address, Judge())
    forget(listener)
    assert resumed_chain(transport) == asked[0]
    with pytest.raises(Refused):
        transport.dial(listener.address, client_tls(server_tls()))
    forget(listener)
    assert talk(transport, listener)


def succeed(listener, identity):
    """A new listener at the address of one that is closed."""
    listener.close()
    while True:
        gevent.sleep(0)
        with suppress(ConfigError):  # the kernel has not let go of it yet
            return TLSTransport().listen(listener.address, identity)


def resumed_chain(transport):
    ((_, chain, _),) = transport._dialer.sessions._kept.values()
    return chain


def test_another_server_at_the_same_address_is_judged_by_its_own_certificate(listener):
    transport = TLSTransport()
    talk(transport, listener)
    other = server_tls()
    address, successor = listener.address, succeed(listener, other)
    try:
        with pytest.raises(Refused):
            transport.dial(address, CLIENT)
        forget(successor)
        assert not talk(transport, successor, client_tls(other))
        assert talk(transport, successor, client_tls(other))
    finally:
        successor.close()


def test_a_server_that_was_restarted_does_not_know_old_sessions(listener):
    transport = TLSTransport()
    talk(transport, listener)
    successor = succeed(listener, IDENTITY)
    try:
        assert [talk(transport, successor) for _ in range(2)] == [False, True]
    finally:
        successor.close()


def group(transport, listener):
    """How the next connection exchanges keys."""
    near = transport.dial(listener.address, CLIENT)
    name = near._stream.connection.get_group_name()
    far = listener.accept()
    far.accept().sendall(b"hello")
    assert near.open().recv() == b"hello"
    near.close()
    far.close()
    return name.lower()


def test_only_resumed_connections_exchange_keys_with_x25519_alone(listener, monkeypatch):
    """Also where a server that does not know the session would have gone on without it."""
    monkeypatch.setattr(context_module, "FRESH", 0)
    transport = TLSTransport()
    best = group(TLSTransport(), listener)
    assert [group(transport, listener) for _ in range(3)] == [best, "x25519", "x25519"]
    successor = succeed(listener, IDENTITY)
    try:
        near = transport.dial(successor.address, CLIENT)
        assert near._stream.connection.get_group_name().lower() == best
        near.close()
        forget(successor)
    finally:
        successor.close()


def test_a_server_without_x25519_is_reached_again_though_it_gave_a_session():
    """A server that lane would not set up like that: it stands behind somebody else's TLS."""
    listener = TLSTransport().listen(LOOPBACK, IDENTITY)
    SSL._lib.SSL_CTX_set1_curves_list(listener._context._context, b"P-384")
    transport = TLSTransport()
    try:
        assert [group(transport, listener) for _ in range(3)] == ["secp384r1"] * 3
    finally:
        listener.close()


class Between:
    """A way to `listener` that changes the server's encrypted bytes on the connections that `spoil` names."""

    def __init__(self, listener, spoil):
        self.accept, self._listener, self._spoil = listener.accept, listener, spoil
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))
        self._sock.listen()
        self.address = Address(*self._sock.getsockname())
        self.count = 0
        self._socks = [self._sock]
        self._jobs = [gevent.spawn(self._run)]

    def _run(self):
        while True:
            near, _ = self._sock.accept()
            far = socket.create_connection(self._listener.address)
            self.count += 1
            self._socks += [near, far]
            self._jobs += [
                gevent.spawn(self._pump, near, far, 0),
                gevent.spawn(self._pump, far, near, int(self.count in self._spoil)),
            ]

    def _pump(self, source, sink, change):
        with suppress(OSError):
            while data := source.recv(65536):  # what is encrypted comes last in what a server says at once
                sink.sendall(data[:-1] + bytes((data[-1] ^ change,)))
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        gevent.killall(self._jobs)
        for sock in self._socks:
            sock.close()


def test_a_handshake_that_fails_after_the_server_resumed_counts_for_nothing(listener):
    """Whoever stands between them can have it fail there, when OpenSSL says "resumed" already."""
    between = Between(listener, spoil={2})
    transport = TLSTransport()
    assert not talk(transport, between)
    near = transport.dial(between.address, CLIENT)
    assert not near.closed
    assert not near._stream.resumed
    assert between.count == 3
    near.close()
    forget(listener)
    between.close()


def test_the_sessions_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(context_module, "_RESUMABLE", 3)
    transport = TLSTransport()
    for _ in range(5):
        listener = TLSTransport().listen(LOOPBACK, IDENTITY)
        talk(transport, listener)
        assert talk(transport, listener)
        listener.close()
    assert len(transport._dialer.sessions) == 3


def test_a_session_cannot_be_resumed_without_a_new_key_exchange(listener):
    """And there is no early data: a ticket that lane's server gives does not allow any."""
    transport = TLSTransport()
    talk(transport, listener)
    ((session, *_),) = transport._dialer.sessions._kept.values()
    assert SSL._lib.SSL_SESSION_get_max_early_data(session._session) == 0


@pytest.mark.parametrize("what", ["system", "reno", "cubic"])
def test_bulk_is_sent_with_the_congestion_control_that_was_asked_for_at_both_ends(what):
    with socket.socket() as sock:
        default = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    transport = TLSTransport(congestion=what)
    listener = transport.listen(LOOPBACK, IDENTITY)
    near = transport.dial(listener.address, CLIENT)
    far = listener.accept()
    streams = near.open(), far.accept()
    for stream, other in (streams, streams[::-1]):
        job = gevent.spawn(stream.sendall, bytes(100_000))
        size = 0
        while size < 100_000:
            size += len(other.recv())
        job.get()
    expected = default if what == "system" else what.encode()
    for carrier in (near, far):
        found = carrier._stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        assert found.rstrip(b"\0") == expected.rstrip(b"\0")
        carrier.close()
    listener.close()


def test_workers_resume_each_others_sessions(monkeypatch):
    """Their parent has prepared the context, so they share its ticket keys."""
    monkeypatch.setattr(context_module, "_shared", {})
    transport = TLSTransport()
    transport.prepare(IDENTITY)
    first, second = (transport.listen(LOOPBACK, IDENTITY) for _ in range(2))
    assert first._context is second._context
    assert not talk(transport, first)
    kept = transport._dialer.sessions._kept
    kept[second.address, CLIENT.server_name] = kept[first.address, CLIENT.server_name]
    assert talk(transport, second)
    other = server_tls()
    transport.prepare(other)
    assert list(context_module._shared) == [(other.chain_pem, other.key_pem)]  # of the newest identity only
    first.close()
    second.close()
