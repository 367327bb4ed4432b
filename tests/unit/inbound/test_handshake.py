"""The inbound with real sockets: what applications are told over both protocols."""

import gevent
import pytest
from gevent import socket
from gevent.event import AsyncResult, Event

from lane.address import Address
from lane.errors import Closed, Refused, Status, TargetError, Unreachable
from lane.inbound.handshake_io import RECV_SIZE
from lane.net.sockets import end_on_close
from lane.testing.harness import until
from tests.support.inbound import (
    CONNECT,
    GREETING,
    HEAD,
    HTTP_SUCCESS,
    LOGIN,
    SOCKS4_SUCCESS,
    SOCKS4A,
    SUCCESS,
    TARGET,
    Echo,
    dial,
    raising,
    receive,
    reset,
    running,
    to_end,
    to_reset,
)

PROTOCOLS = pytest.mark.parametrize(
    ("hello", "answer"),
    [
        (GREETING + CONNECT, b"\x05\x00" + SUCCESS),
        (SOCKS4A, SOCKS4_SUCCESS),
        (HEAD, HTTP_SUCCESS),
        (b"\r\n" + HEAD, HTTP_SUCCESS),  # RFC 9112 section 2.2
    ],
    ids=["socks5", "socks4a", "http", "http after an empty line"],
)


@PROTOCOLS
def test_request_and_early_bytes_in_one_packet(hello, answer):
    targets = []

    def connect(target):
        targets.append(target)
        return Echo()

    with running(connect) as inbound, dial(inbound) as sock:
        sock.sendall(hello + b"early ")
        assert receive(sock, len(answer) + 6) == answer + b"early "
        sock.sendall(b"late")
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == b"late"
        assert targets == [TARGET]


@PROTOCOLS
def test_single_bytes(hello, answer):
    with running() as inbound, dial(inbound) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(hello)):
            sock.sendall(hello[i : i + 1])
            gevent.sleep(0)
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == answer


@PROTOCOLS
def test_half_close_while_connecting(hello, answer):
    connecting, go = Event(), Event()

    def connect(target):
        connecting.set()
        go.wait()
        return Echo()

    with running(connect) as inbound, dial(inbound) as sock:
        sock.sendall(hello + b"all I have to say")
        sock.shutdown(socket.SHUT_WR)
        connecting.wait()
        go.set()
        assert to_end(sock) == answer + b"all I have to say"


FAILURES = [(TargetError(status, f"it is {status.name}"), status) for status in list(Status)[1:]] + [
    (Unreachable("no server"), Status.FAILURE),
    (Closed("lost it"), Status.FAILURE),
    (Refused("wrong key"), Status.FAILURE),
]
HTTP = {Status.NOT_ALLOWED: 403, Status.TTL_EXPIRED: 504, Status.COMMAND_NOT_SUPPORTED: 501}
HTTP |= {Status.ADDRESS_NOT_SUPPORTED: 400}


@pytest.mark.parametrize(("error", "status"), FAILURES)
def test_failures_through_socks5(error, status):
    with running(raising(error)) as inbound, dial(inbound) as sock:
        sock.sendall(GREETING + CONNECT)
        assert to_end(sock) == bytes((5, 0, 5, status, 0, 1)) + bytes(6)


@pytest.mark.parametrize(("error", "status"), FAILURES)
def test_failures_through_socks4(error, status):
    with running(raising(error)) as inbound, dial(inbound) as sock:
        sock.sendall(SOCKS4A)
        assert to_end(sock) == b"\x00\x5b" + bytes(6)


@pytest.mark.parametrize(("error", "status"), FAILURES)
def test_failures_through_http(error, status):
    with running(raising(error)) as inbound, dial(inbound) as sock:
        sock.sendall(HEAD)
        answer = to_end(sock).decode()
        assert answer.startswith(f"HTTP/1.1 {HTTP.get(status, 502)} ")
        assert answer.endswith(f"\r\n\r\n{error}\n")


@PROTOCOLS
def test_a_refusal_is_not_destroyed_by_unread_input(hello, answer):
    with running(raising(TargetError(Status.REFUSED, "refused"))) as inbound, dial(inbound) as sock:
        sock.sendall(hello + bytes(100_000))
        assert receive(sock, 4) in (b"\x05\x00\x05\x05", b"\x00\x5b\x00\x00", b"HTTP")
        sock.sendall(bytes(50_000))  # where the other side had just closed, this would fail
        sock.shutdown(socket.SHUT_WR)
        to_end(sock)


def test_small_writes_are_not_delayed():
    class Asked(Echo):
        def run(self, sock, early):
            with sock:
                sock.sendall(bytes((sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),)))
                end_on_close(sock)

    with running(lambda target: Asked()) as inbound, dial(inbound) as sock:
        sock.sendall(HEAD)
        assert to_end(sock) == HTTP_SUCCESS + b"\x01"


@pytest.mark.parametrize(
    ("hello", "answer"),
    [
        (b"\x05\x01\x02\x01\x04user\x06secret" + CONNECT, b"\x05\x02\x01\x00" + SUCCESS),
        (b"\x05\x02\x00\x02\x01\x04user\x05wrong" + CONNECT, b"\x05\x02\x01\x01"),
        (GREETING + CONNECT, b"\x05\xff"),
        (SOCKS4A, b"\x00\x5d" + bytes(6)),
        (HEAD[:-2] + b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n", HTTP_SUCCESS),
        (HEAD[:-2] + b"Proxy-Authorization: Basic dXNlcjp3cm9uZw==\r\n\r\n", b"HTTP/1.1 407 "),
        (HEAD, b"HTTP/1.1 407 "),
    ],
)
def test_logins(hello, answer):
    with running(credentials=LOGIN) as inbound, dial(inbound) as sock:
        sock.sendall(hello)
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock).startswith(answer)


@pytest.mark.parametrize(
    "data", [b"\x06\x01\x00\x50", b"\x00", b"\x16\x03\x01", b"get / HTTP/1.1\r\n", b"\xff"]
)
def test_other_protocols_are_reset(data):
    with running() as inbound, dial(inbound) as sock:
        sock.sendall(data[:1])
        assert to_reset(sock) == b""


@pytest.mark.parametrize("data", [b"", b"\x05\x01", GREETING + CONNECT[:-1], HEAD[:-1]])
def test_an_application_that_leaves_early(data):
    def connect(target):
        raise AssertionError

    with running(connect) as inbound, dial(inbound) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) in (b"", b"\x05\x00")


def test_an_application_that_left_while_connecting():
    connecting, go = Event(), Event()
    connection = Echo()

    def connect(target):
        connecting.set()
        go.wait()
        return connection

    with running(connect) as inbound:
        sock = dial(inbound)
        sock.sendall(GREETING + CONNECT)
        assert receive(sock, 2) == b"\x05\x00"
        connecting.wait()
        reset(sock)
        go.set()
        until(lambda: inbound.sessions == 0)
        assert connection.aborted
        assert not connection.ran


def test_a_bug_costs_one_connection_and_is_logged(caplog):
    bugs = [ZeroDivisionError("a bug"), OSError("a bug too"), gevent.Timeout(1)]

    def connect(target):
        if bugs:
            raise bugs.pop()
        return Echo()

    with running(connect) as inbound, dial(inbound) as bystander:
        for _ in range(3):
            with dial(inbound) as sock:
                sock.sendall(HEAD)
                assert to_reset(sock) == b""
        bystander.sendall(HEAD)
        assert receive(bystander, len(HTTP_SUCCESS)) == HTTP_SUCCESS
    assert [record.exc_info[0] for record in caplog.records] == [gevent.Timeout, OSError, ZeroDivisionError]
    assert "127.0.0.1 failed unexpectedly" in caplog.text


def test_a_bad_bound_address_aborts_the_connection(caplog):
    connection = Echo()
    connection.bound = None
    with running(lambda target: connection) as inbound, dial(inbound) as sock:
        sock.sendall(GREETING + CONNECT)
        assert to_reset(sock) == b"\x05\x00"
    assert connection.aborted
    assert len(caplog.records) == 1


BIND = b"\x05\x02\x00" + Address("198.51.100.7", 21).pack()
BIND4 = b"\x04\x02\x00\x15\xc6\x33\x64\x07me\x00"
PEER = Address("198.51.100.7", 20)
BINDS = pytest.mark.parametrize(
    ("hello", "first", "second", "failed"),
    [
        (
            GREETING + BIND,
            b"\x05\x00" + SUCCESS,
            b"\x05\x00\x00" + PEER.pack(),
            lambda status: bytes((5, status, 0, 1)) + bytes(6),
        ),
        (BIND4, SOCKS4_SUCCESS, b"\x00\x5a\x00\x14\xc6\x33\x64\x07", lambda _: b"\x00\x5b" + bytes(6)),
    ],
    ids=["socks5", "socks4"],
)


class Door(Echo):
    """A Listening; `outcome` is whom it is from, or what keeps anybody from coming."""

    def __init__(self):
        super().__init__()
        self.outcome = AsyncResult()

    def accept(self, goes=None):
        return self.outcome.get()

    def abort(self):
        self.aborted = True
        if not self.outcome.ready():
            self.outcome.set_exception(Closed("aborted"))


@BINDS
def test_bind(hello, first, second, failed):
    door, asked = Door(), []
    with running(bind=lambda peer: asked.append(peer) or door) as inbound, dial(inbound) as sock:
        sock.sendall(hello + b"early ")
        assert receive(sock, len(first)) == first
        assert asked == [Address("198.51.100.7", 21)]
        sock.sendall(b"and later ")
        gevent.sleep(0.01)
        door.outcome.set(PEER)
        assert receive(sock, len(second)) == second
        sock.sendall(b"and last")
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == b"early and later and last"
        assert not door.aborted


@BINDS
def test_bind_holds_little_of_what_is_said_too_early(hello, first, second, failed):
    door, early = Door(), []
    door.run = lambda sock, data: early.append(data)
    with running(bind=lambda peer: door) as inbound, dial(inbound) as sock:
        sock.sendall(hello)
        receive(sock, len(first))
        sender = gevent.spawn(sock.sendall, bytes(16 << 20))
        sender.join(0.1)
        assert not sender.ready()
        door.outcome.set(PEER)
        until(lambda: early)
        sender.kill()
        assert RECV_SIZE <= len(early[0]) < 2 * RECV_SIZE


@BINDS
@pytest.mark.parametrize(("error", "status"), FAILURES)
def test_bind_that_nobody_comes_to(hello, first, second, failed, error, status):
    door = Door()
    with running(bind=lambda peer: door) as inbound, dial(inbound) as sock:
        sock.sendall(hello)
        assert receive(sock, len(first)) == first
        door.outcome.set_exception(error)
        assert to_end(sock) == failed(status)
        assert door.aborted
        assert not door.ran


@BINDS
@pytest.mark.parametrize(("error", "status"), FAILURES[:3])
def test_bind_that_is_refused(hello, first, second, failed, error, status):
    with running(bind=raising(error)) as inbound, dial(inbound) as sock:
        sock.sendall(hello)
        assert to_end(sock) == first[: -len(failed(status))] + failed(status)


@BINDS
@pytest.mark.parametrize("leave", [reset, lambda sock: sock.close()], ids=["reset", "close"])
def test_bind_of_an_application_that_leaves(hello, first, second, failed, leave):
    door = Door()
    with running(bind=lambda peer: door) as inbound:
        sock = dial(inbound)
        sock.sendall(hello)
        receive(sock, len(first))
        leave(sock)
        until(lambda: inbound.sessions == 0)
        assert door.aborted
        assert not door.ran
