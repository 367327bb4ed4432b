"""The inbound under stress: deadlines, full, failing accepts, and where it can listen."""

import socket as blocking

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool

from lane.address import Address
from lane.errors import ConfigError, Status, TargetError
from lane.inbound import Inbound, handshake_io
from lane.net import listen as net_listen
from lane.net.sockets import KEEPALIVE
from lane.proto.http import Http
from lane.testing.harness import outcome, until
from tests.support.inbound import (
    CONNECT,
    GREETING,
    HEAD,
    HTTP_SUCCESS,
    SOCKS4A,
    SUCCESS,
    Echo,
    dial,
    proxy,
    raising,
    receive,
    running,
    to_end,
    to_reset,
)
from tests.support.names import Names

pytestmark = pytest.mark.usefixtures("clock")


def test_lingering_ends_with_bytes(monkeypatch):
    monkeypatch.setattr(handshake_io, "LINGER_TIME", 60)
    with running(raising(TargetError(Status.REFUSED, "refused"))) as inbound, dial(inbound) as sock:
        sock.sendall(HEAD)
        to_end(sock)  # and keep our own side open, and then send without end
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            while True:
                sock.sendall(bytes(65536))
        until(lambda: inbound.sessions == 0)


def test_who_sends_a_whole_body_first_reads_the_refusal():
    with running(raising(TargetError(Status.REFUSED, "refused"))) as inbound, dial(inbound) as sock:
        sock.sendall(HEAD)
        for _ in range(32):
            sock.sendall(bytes(65536))
            gevent.sleep(0.01)  # lane reads
        assert to_end(sock)
        sock.close()
        until(lambda: inbound.sessions == 0)


def test_lingering_ends_with_time(monkeypatch):
    monkeypatch.setattr(handshake_io, "LINGER_TIME", 0.05)
    with running(raising(TargetError(Status.REFUSED, "refused"))) as inbound, dial(inbound) as sock:
        sock.sendall(HEAD)
        to_end(sock)
        until(lambda: inbound.sessions == 0)


@pytest.mark.parametrize("data", [b"", b"\x05", GREETING, GREETING + CONNECT[:-1], HEAD[:-1]])
def test_a_slow_handshake_is_dropped(data):
    with running(handshake_timeout=0.05) as inbound, dial(inbound) as sock:
        sock.sendall(data)
        assert to_reset(sock) in (b"", b"\x05\x00")
        until(lambda: inbound.sessions == 0)


def test_the_deadline_is_one_for_the_whole_handshake():
    with running(handshake_timeout=0.2) as inbound, dial(inbound) as sock:
        with pytest.raises(OSError):  # every byte comes in time for a deadline of its own
            while True:
                sock.sendall(b"A")
                gevent.sleep(0.01)
        assert inbound.sessions == 0


def test_the_deadline_is_over_with_the_request():
    go = Event()

    def connect(target):
        go.wait()
        return Echo()

    with running(connect, handshake_timeout=0.05) as inbound, dial(inbound) as sock:
        sock.sendall(GREETING + CONNECT)
        assert receive(sock, 2) == b"\x05\x00"
        with dial(inbound) as other:
            assert to_reset(other) == b""  # one that began later has been dropped
        go.set()
        assert receive(sock, len(SUCCESS)) == SUCCESS


def test_full(monkeypatch):
    accepted = []
    accept = socket.socket.accept

    def counted(listener):
        found = accept(listener)
        accepted.append(found)
        return found

    monkeypatch.setattr(socket.socket, "accept", counted)
    with running(max_sessions=1) as inbound, dial(inbound) as first:
        first.sendall(GREETING + CONNECT)
        receive(first, 2 + len(SUCCESS))
        with dial(inbound) as second:
            second.sendall(HEAD)
            for _ in range(50):  # the first is untouched, and time enough for an answer to the second
                first.sendall(b"ping")
                assert receive(first, 4) == b"ping"
            with pytest.raises(BlockingIOError):
                second._sock.recv(1, socket.MSG_DONTWAIT)
            assert len(accepted) == inbound.sessions == 1
            first.close()
            assert receive(second, len(HTTP_SUCCESS)) == HTTP_SUCCESS
            assert inbound.sessions == 1
        until(lambda: inbound.sessions == 0)


def test_close_stops_accepting_only():
    with running() as inbound, dial(inbound) as sock:
        sock.sendall(HEAD)
        receive(sock, len(HTTP_SUCCESS))
        inbound.close()
        inbound.close()
        with pytest.raises(ConnectionRefusedError):
            dial(inbound)
        sock.sendall(b"still here")
        assert receive(sock, 10) == b"still here"


@pytest.mark.parametrize("data", [b"\x05", GREETING + CONNECT])
def test_kill_resets_the_sockets(data):
    def connect(target):
        Event().wait()

    with running(connect) as inbound, dial(inbound) as sock:
        sock.sendall(data)
        until(lambda: inbound.sessions == 1)
        if len(data) > 1:
            assert receive(sock, 2) == b"\x05\x00"
        inbound.kill()
        assert inbound.sessions == 0
        assert to_reset(sock) == b""


def test_close_before_start():
    inbound = proxy(Address("127.0.0.1", 0))
    inbound.close()
    with pytest.raises(ConnectionRefusedError):
        dial(inbound)


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("localhost", ["localhost"]),
        ("::1", ["::1"]),
        ("", ["127.0.0.1", "::1"]),
    ],
)
def test_hosts(host, reached):
    if "::1" in reached and not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    with running(host=host) as inbound:
        assert inbound.address.port
        for name in reached:
            with socket.create_connection((name, inbound.address.port), timeout=10) as sock:
                sock.sendall(HEAD)
                assert receive(sock, len(HTTP_SUCCESS)) == HTTP_SUCCESS


def has_ipv6():
    try:
        with blocking.socket(blocking.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_name_is_listened_on_at_all_its_addresses(monkeypatch):
    monkeypatch.setattr(net_listen, "system_resolver", lambda: Names("127.0.0.2", "127.0.0.1"))
    with running(host="name.test") as inbound:
        for host in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((host, inbound.address.port), timeout=10) as sock:
                sock.sendall(HEAD)
                assert receive(sock, len(HTTP_SUCCESS)) == HTTP_SUCCESS
        inbound.close()
        for host in ("127.0.0.1", "127.0.0.2"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, inbound.address.port), timeout=10)


def test_urgent_data_of_an_application_stays_in_its_place():
    """It would be taken out of the data, where nobody asks for it: a byte would be lost."""
    with running() as inbound, dial(inbound) as sock:
        sock.send(b"\x05\x01", blocking.MSG_OOB)
        sock.sendall(b"\x00")
        assert receive(sock, 2) == b"\x05\x00"


def test_applications_that_are_gone_are_noticed_within_minutes():
    seen = []

    def serve(sock):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        seen.append([sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEPALIVE])

    inbound = Inbound(Address("127.0.0.1", 0), serve, Pool(1))
    inbound.start()
    with dial(inbound) as sock:
        assert to_reset(sock) == b""
    inbound.close()
    assert seen == [[*KEEPALIVE.values()]]


@pytest.mark.parametrize("host", ["192.0.2.1", "a" * 64 + ".invalid"])
def test_cannot_listen(host):
    with pytest.raises(ConfigError, match=rf"^cannot listen on {host}:0: .*(assign|too long)") as caught:
        proxy(Address(host, 0))
    assert "\n" not in str(caught.value)


def test_a_restart_gets_the_port_back():
    refused = TargetError(Status.REFUSED, "refused")
    with running(raising(refused)) as inbound, dial(inbound) as sock:
        sock.sendall(SOCKS4A)
        to_end(sock)  # closed from there first: the port keeps a TIME_WAIT
    with running(port=inbound.address.port) as again:
        assert again.address == inbound.address


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_port_in_use(host):
    with running(host=host) as inbound:
        address = Address(host, inbound.address.port)
        with pytest.raises(ConfigError, match=rf"^cannot listen on {address}: Address already in use$"):
            proxy(address)


def test_requests_that_are_answered_without_end_keep_nobody_waiting():
    class Endless:
        """An application that always has another request, and takes every answer, until the test gives up."""

        reads = 0

        def recv(self, size):
            self.reads += 1
            return b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100 if self.reads < 100 else b""

        def send(self, data):
            return len(data)

    sock = Endless()
    talking = gevent.spawn(outcome, handshake_io.read_request, sock, Http())
    until(lambda: sock.reads)
    assert sock.reads < 100
    talking.kill()
