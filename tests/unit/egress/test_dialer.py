"""The dialer on real loopback sockets: the fastest address, the true error, nothing left open."""

import errno
import os
import socket as native

import gevent
import pytest
from gevent import socket

from lane.address import Address
from lane.egress import dialer as dialer_module
from lane.egress.dialer import Dialer
from lane.egress.policy import Policy, Rule
from lane.errors import Status, TargetError
from lane.net import connect as net_connect
from lane.net import race
from lane.net.resolver import Resolver
from lane.testing.harness import outcome, until
from tests.support.descriptors import opened
from tests.support.loopback import deaf, listen
from tests.support.names import Names

LOCAL = Policy(local=True)
OPTIONS = [
    (native.SOL_SOCKET, native.SO_KEEPALIVE, 1),
    (native.SOL_SOCKET, native.SO_OOBINLINE, 1),
    (native.IPPROTO_TCP, native.TCP_KEEPIDLE, 120),
    (native.IPPROTO_TCP, native.TCP_KEEPINTVL, 30),
    (native.IPPROTO_TCP, native.TCP_KEEPCNT, 4),
]


@pytest.fixture(autouse=True)
def _none_open():
    gevent.idle()  # sockets that the test before has closed are gone only after a turn of the loop


@pytest.fixture
def listener():
    with listen("127.0.0.1") as one:
        yield one


@pytest.fixture
def stuck():
    """The port of an address that does not answer, 127.0.0.2."""
    with deaf("127.0.0.2") as port:
        yield port


def refusal(dialer, target):
    with pytest.raises(TargetError) as caught:
        dialer.connect(target)
    assert "\n" not in str(caught.value)
    return caught.value


def closed_port(address="127.0.0.1"):
    """A port that nobody listens on: bound, so that nobody else takes it."""
    sock = native.socket()
    sock.bind((address, 0))
    return sock


# The dialer


def test_a_connection_carries_bytes_and_has_its_options(listener):
    with Dialer(LOCAL, Resolver()).connect(Address(*listener.getsockname())) as sock:
        peer, _ = listener.accept()
        with peer:
            sock.sendall(b"hello")
            assert peer.recv(10) == b"hello"
        assert type(sock) is native.socket
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for level, option, value in OPTIONS:
            assert sock.getsockopt(level, option) == value


def test_a_name_and_ipv6(listener):
    port = listener.getsockname()[1]
    with Dialer(LOCAL, Resolver()).connect(Address("localhost", port)) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)
    with listen("::1") as six, Dialer(LOCAL, Resolver()).connect(Address(*six.getsockname()[:2])) as sock:
        assert sock.getpeername()[0] == "::1"


def test_a_refused_port_is_refused():
    with closed_port() as sock:
        error = refusal(Dialer(LOCAL, Resolver()), Address(*sock.getsockname()))
    assert error.status is Status.REFUSED
    assert str(error) == "connection refused"


def test_an_address_that_fails_gives_way_at_once(listener, monkeypatch):
    monkeypatch.setattr(race, "STAGGER", 3600)
    port = listener.getsockname()[1]
    dialer = Dialer(LOCAL, Names("127.0.0.9", "127.0.0.8", "127.0.0.1"))
    with dialer.connect(Address("name.test", port)) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"


def test_an_address_that_does_not_answer_is_overtaken_and_closed(stuck):
    before = opened()
    with listen("127.0.0.3", stuck) as good:
        dialer = Dialer(LOCAL, Names("127.0.0.2", "127.0.0.3"))
        with dialer.connect(Address("name.test", stuck)) as sock:
            assert sock.getpeername()[0] == "127.0.0.3"
            until(lambda: len(opened() - before) == 2)  # the listener and the winner
        good.accept()[0].close()
    until(lambda: not opened() - before)


def test_the_first_address_wins_when_it_answers(listener, monkeypatch):
    """In the resolver's order, and the second is not even tried."""
    port = listener.getsockname()[1]
    tried = record_attempts(monkeypatch)
    with Dialer(LOCAL, Names("127.0.0.1", "127.0.0.9")).connect(Address("name.test", port)):
        assert tried == [("127.0.0.1", port)]


def test_attempts_start_in_order(monkeypatch):
    tried = record_attempts(monkeypatch)
    with closed_port() as sock:
        port = sock.getsockname()[1]
        refusal(Dialer(LOCAL, Names("::1", "127.0.0.1", "127.0.0.9")), Address("name.test", port))
    assert tried == [("::1", port), ("127.0.0.1", port), ("127.0.0.9", port)]


def record_attempts(monkeypatch):
    tried = []

    def spy(where, *how):
        tried.append((str(where[0]), where[1]))
        return net_connect.connect_to(where, *how)

    monkeypatch.setattr(dialer_module, "connect_to", spy)
    return tried


def test_the_address_that_answered_is_tried_first_from_then_on(stuck, monkeypatch):
    tried = record_attempts(monkeypatch)
    dialer = Dialer(LOCAL, Names("127.0.0.2", "127.0.0.3"))
    with listen("127.0.0.3", stuck):
        for _ in range(2):
            dialer.connect(Address("name.test", stuck)).close()
    assert [ip for ip, _ in tried] == ["127.0.0.2", "127.0.0.3", "127.0.0.3"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_a_connection_to_itself_is_refused(monkeypatch, host):
    """The system may pick the target's port, on which nobody listens, for our end of the connection."""
    with listen(host) as one:
        port = one.getsockname()[1]

    class Socket(socket.socket):
        def connect(self, where):
            self.bind(where)
            super().connect(where)

    monkeypatch.setattr(net_connect.socket, "socket", Socket)
    before = opened()
    error = refusal(Dialer(Policy([Rule.parse("0.0.0.0/0")], local=True), Resolver()), Address(host, port))
    assert (error.status, str(error)) == (Status.REFUSED, "connection refused")
    assert not opened() - before


def test_no_answer_in_time(stuck):
    before = opened()
    error = refusal(Dialer(LOCAL, Names("127.0.0.2"), connect_timeout=0.05), Address("name.test", stuck))
    assert error.status is Status.TTL_EXPIRED
    until(lambda: not opened() - before)


def test_the_most_telling_error_is_told(stuck):
    """One host refuses, the other is silent: the one that answered counts."""
    dialer = Dialer(LOCAL, Names("127.0.0.9", "127.0.0.2"), connect_timeout=0.05)
    assert refusal(dialer, Address("name.test", stuck)).status is Status.REFUSED


@pytest.mark.parametrize("end", ["kill", "timeout"])
def test_a_dial_that_is_cut_short_leaves_nothing_open(stuck, end):
    before = opened()
    dialer = Dialer(LOCAL, Names("127.0.0.2", "127.0.0.2"), connect_timeout=3600)

    caller = gevent.spawn(outcome, dialer.connect, Address("name.test", stuck))
    until(lambda: len(opened() - before) == 2)
    cut = gevent.GreenletExit() if end == "kill" else gevent.Timeout(1)
    caller.kill(cut)
    assert cut in (caller.value, caller.exception)
    until(lambda: not opened() - before)


class Failing:
    """A socket whose connect fails as it is told: what the kernel says of networks that are not here."""

    def __init__(self, monkeypatch, *, connect=(), create=()):
        connect, create = list(connect), list(create)

        class Socket(native.socket):
            def __init__(self, *arguments):
                if create:
                    number = create.pop(0)
                    raise OSError(number, os.strerror(number))
                super().__init__(*arguments)

            def connect_ex(self, where):
                return connect.pop(0) if connect else super().connect_ex(where)

        monkeypatch.setattr(net_connect.socket, "socket", Socket)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ECONNREFUSED, Status.REFUSED),
        (errno.ENETUNREACH, Status.NETWORK_UNREACHABLE),
        (errno.EHOSTUNREACH, Status.HOST_UNREACHABLE),
        (errno.ETIMEDOUT, Status.TTL_EXPIRED),
        (errno.EACCES, Status.NOT_ALLOWED),
        (errno.EPERM, Status.NOT_ALLOWED),
        (errno.ECONNRESET, Status.FAILURE),
    ],
)
def test_what_the_kernel_says_is_what_is_told(monkeypatch, number, status):
    before = opened()
    Failing(monkeypatch, connect=[errno.ENETUNREACH, number, errno.ENETUNREACH])
    error = refusal(Dialer(LOCAL, Names("::1", "127.0.0.1", "127.0.0.2")), Address("name.test", 9))
    assert (error.status, str(error)) == (status, os.strerror(number).lower())
    until(lambda: not opened() - before)


def test_ports_that_are_all_in_use_are_our_failure(monkeypatch):
    Failing(monkeypatch, connect=[errno.EADDRNOTAVAIL])
    error = refusal(Dialer(LOCAL, Names("127.0.0.1")), Address("name.test", 9))
    assert (error.status, str(error)) == (Status.FAILURE, "no local port or address is free for that")


def test_too_many_open_files_is_said(monkeypatch):
    Failing(monkeypatch, create=[errno.EMFILE])
    error = refusal(Dialer(LOCAL, Names("127.0.0.1")), Address("name.test", 9))
    assert (error.status, str(error)) == (Status.FAILURE, "too many open files")


def test_a_kernel_without_ipv6_still_dials_ipv4(listener, monkeypatch):
    Failing(monkeypatch, create=[errno.EAFNOSUPPORT])
    port = listener.getsockname()[1]
    with Dialer(LOCAL, Names("::1", "127.0.0.1")).connect(Address("name.test", port)) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"


# The dialer and the policy

DISGUISES = [
    "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001", "0177.0.0.01", "localhost",
    "LOCALHOST.", "0", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
    "2002:7f00:1::1", "1\uff127.0.0.1", "127\u30020\u30020\u30021", "[::1]", "::1%lo", "fe80::1%lo",
    "127.0.0.1.", " 127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("host", DISGUISES)
def test_no_disguise_of_loopback_is_dialled(listener, monkeypatch, host):
    monkeypatch.setattr(net_connect.socket, "socket", None)  # no socket, no dialling
    dialer = Dialer(Policy(), Resolver())
    error = refusal(dialer, Address(host, listener.getsockname()[1]))
    assert error.status in (Status.NOT_ALLOWED, Status.HOST_UNREACHABLE)
    if host in ("127.1", "2130706433", "0x7f.1", "017700000001", "localhost"):
        assert str(error) == "not allowed: loopback address (the server's --allow)"


def test_only_the_addresses_that_are_allowed_are_dialled(listener, monkeypatch):
    tried = record_attempts(monkeypatch)
    port = listener.getsockname()[1]
    policy = Policy([Rule.parse(f"127.0.0.1:{port}")])
    with Dialer(policy, Names("::1", "127.0.0.2", "127.0.0.1")).connect(Address("name.test", port)):
        assert tried == [("127.0.0.1", port)]


def test_an_allowed_name_reaches_its_address_and_the_address_alone_does_not(listener):
    port = listener.getsockname()[1]
    dialer = Dialer(Policy([Rule.parse("name.test")]), Names("127.0.0.1"))
    dialer.connect(Address("Name.Test.", port)).close()
    assert refusal(dialer, Address("127.0.0.1", port)).status is Status.NOT_ALLOWED


def test_port_0_is_never_dialled():
    assert refusal(Dialer(LOCAL, Names("127.0.0.1")), Address("name.test", 0)).status is Status.NOT_ALLOWED
