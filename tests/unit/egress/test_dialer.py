"""Resolver and dialer on real loopback sockets: the fastest address, the true error, nothing left open."""

import errno
import os
import socket as native
import threading

import gevent
import pytest
from gevent import socket

from lane.address import Address
from lane.egress import dialer as dialer_module
from lane.egress.dialer import Dialer
from lane.egress.policy import Policy, Rule
from lane.egress.resolver import MAX_ADDRESSES, Resolver
from lane.errors import Status, TargetError
from lane.testing.harness import until

LOCAL = Policy(local=True)


@pytest.fixture(autouse=True)
def _none_open():
    gevent.idle()  # sockets that the test before has closed are gone only after a turn of the loop


def descriptors():
    return len(os.listdir("/proc/self/fd"))


class Names:
    """A resolver that knows what it was told."""

    def __init__(self, *addresses):
        self.found = [(native.AF_INET6 if ":" in one else native.AF_INET, one) for one in addresses]

    def resolve(self, host, port):
        return self.found


def listen(address, port=0, backlog=16):
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.bind((address, port))
    listener.listen(backlog)
    return listener


@pytest.fixture
def listener():
    with listen("127.0.0.1") as one:
        yield one


@pytest.fixture
def stuck():
    """An address that does not answer: 127.0.0.2, where a listener's backlog is full."""
    with listen("127.0.0.2", backlog=0) as one:
        fillers = []
        try:
            while True:
                fillers.append(native.socket())
                fillers[-1].settimeout(0.3)
                fillers[-1].connect(one.getsockname())
        except TimeoutError:
            yield one.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


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
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


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
    monkeypatch.setattr(dialer_module, "STAGGER", 3600)
    port = listener.getsockname()[1]
    dialer = Dialer(LOCAL, Names("127.0.0.9", "127.0.0.8", "127.0.0.1"))
    with dialer.connect(Address("name.test", port)) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"


def test_an_address_that_does_not_answer_is_overtaken_and_closed(stuck):
    before = descriptors()
    with listen("127.0.0.3", stuck) as good:
        dialer = Dialer(LOCAL, Names("127.0.0.2", "127.0.0.3"))
        with dialer.connect(Address("name.test", stuck)) as sock:
            assert sock.getpeername()[0] == "127.0.0.3"
            until(lambda: descriptors() == before + 2)  # the listener and the winner
        good.accept()[0].close()
    until(lambda: descriptors() == before)


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
    connect = dialer_module._connect

    def spy(sock, where):
        tried.append(where)
        connect(sock, where)

    monkeypatch.setattr(dialer_module, "_connect", spy)
    return tried


def test_no_answer_in_time(stuck):
    before = descriptors()
    error = refusal(Dialer(LOCAL, Names("127.0.0.2"), connect_timeout=0.05), Address("name.test", stuck))
    assert error.status is Status.TTL_EXPIRED
    until(lambda: descriptors() == before)


def test_the_most_telling_error_is_told(stuck):
    """One host refuses, the other is silent: the one that answered counts."""
    dialer = Dialer(LOCAL, Names("127.0.0.9", "127.0.0.2"), connect_timeout=0.05)
    assert refusal(dialer, Address("name.test", stuck)).status is Status.REFUSED


@pytest.mark.parametrize("end", ["kill", "timeout"])
def test_a_dial_that_is_cut_short_leaves_nothing_open(stuck, end):
    before = descriptors()
    dialer = Dialer(LOCAL, Names("127.0.0.2", "127.0.0.2"), connect_timeout=3600)

    def dial():
        with gevent.Timeout(0.4 if end == "timeout" else None):
            dialer.connect(Address("name.test", stuck))

    caller = gevent.spawn(dial)
    until(lambda: descriptors() == before + 2)
    if end == "kill":
        caller.kill()
        assert isinstance(caller.value, gevent.GreenletExit)
    else:
        with pytest.raises(gevent.Timeout):
            caller.get()
    until(lambda: descriptors() == before)


class Failing:
    """A socket whose connect fails as it is told: what the kernel says of networks that are not here."""

    def __init__(self, monkeypatch, *, connect=(), create=()):
        connect, create = list(connect), list(create)

        class Socket(socket.socket):
            def __init__(self, *arguments):
                if create:
                    number = create.pop(0)
                    raise OSError(number, os.strerror(number))
                super().__init__(*arguments)

            def connect(self, where):
                if not connect:
                    return super().connect(where)
                number = connect.pop(0)
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(dialer_module.socket, "socket", Socket)


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
    before = descriptors()
    Failing(monkeypatch, connect=[errno.ENETUNREACH, number, errno.ENETUNREACH])
    error = refusal(Dialer(LOCAL, Names("::1", "127.0.0.1", "127.0.0.2")), Address("name.test", 9))
    assert (error.status, str(error)) == (status, os.strerror(number).lower())
    until(lambda: descriptors() == before)


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
    monkeypatch.setattr(dialer_module.socket, "socket", None)  # no socket, no dialling
    # Numbers are the system's to read and need no network; what it would have to ask for is unknown here.
    known = native.getaddrinfo

    def offline(name, *arguments, **options):
        if name == b"localhost":
            return known(name, *arguments, **options)
        return known(name, *arguments, **{**options, "flags": native.AI_NUMERICHOST})

    monkeypatch.setattr("lane.egress.resolver.socket.getaddrinfo", offline)
    dialer = Dialer(Policy(), Resolver())
    error = refusal(dialer, Address(host, listener.getsockname()[1]))
    assert error.status in (Status.NOT_ALLOWED, Status.HOST_UNREACHABLE)
    if host in ("127.1", "2130706433", "0x7f.1", "017700000001", "localhost"):
        assert str(error) == "not allowed: loopback address"


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


# The resolver


def answers(monkeypatch, function):
    monkeypatch.setattr("lane.egress.resolver.socket.getaddrinfo", function)


def infos(*addresses):
    return [
        (native.AF_INET6 if ":" in one else native.AF_INET, native.SOCK_STREAM, 6, "", (one, 443))
        for one in addresses
    ]


def test_an_address_needs_no_look_up(monkeypatch):
    answers(monkeypatch, None)
    assert Resolver().resolve("192.0.2.1", 443) == [(native.AF_INET, "192.0.2.1")]
    assert Resolver().resolve("2001:DB8::1", 443) == [(native.AF_INET6, "2001:db8::1")]


def test_families_take_turns_ipv6_first(monkeypatch):
    found = infos("1.1.1.1", "1.1.1.2", "1.1.1.2", "1.1.1.3", "2a00::1", "2a00::2")
    answers(monkeypatch, lambda *_, **__: found)
    expected = ["2a00::1", "1.1.1.1", "2a00::2", "1.1.1.2", "1.1.1.3"]
    assert [ip for _, ip in Resolver().resolve("name.test", 443)] == expected


def test_addresses_are_limited_and_both_families_stay(monkeypatch):
    found = infos(*(f"1.1.1.{n}" for n in range(200)), *(f"2a00::{n:x}" for n in range(200)))
    answers(monkeypatch, lambda *_, **__: found)
    families = [family for family, _ in Resolver().resolve("name.test", 443)]
    assert families == [native.AF_INET6, native.AF_INET] * (MAX_ADDRESSES // 2)


def test_the_name_is_looked_up_in_one_form_and_stays_absolute(monkeypatch):
    asked = []
    answers(monkeypatch, lambda name, *_, **__: asked.append(name) or infos("1.1.1.1"))
    Resolver().resolve("BÜCHER.example.", 443)
    assert asked == [b"xn--bcher-kva.example."]


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        (native.EAI_NONAME, Status.HOST_UNREACHABLE, "name not known"),
        (native.EAI_NODATA, Status.HOST_UNREACHABLE, "name not known"),
        (native.EAI_AGAIN, Status.HOST_UNREACHABLE, "name look-up failed for now"),
        (native.EAI_FAIL, Status.FAILURE, "name look-up failed: why"),
    ],
)
def test_errors_of_the_resolver(monkeypatch, capfd, code, status, text):
    def fail(*_, **__):
        raise native.gaierror(code, "why")

    answers(monkeypatch, fail)
    with pytest.raises(TargetError) as caught:
        Resolver().resolve("name.test", 443)
    assert (caught.value.status, str(caught.value)) == (status, text)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64, "a\0b"])
def test_what_is_no_name_is_not_looked_up(monkeypatch, host):
    answers(monkeypatch, None)
    with pytest.raises(TargetError, match="not a host name"):
        Resolver().resolve(host, 443)


def test_a_name_without_an_address(monkeypatch):
    answers(monkeypatch, lambda *_, **__: [])
    with pytest.raises(TargetError, match="no address") as caught:
        Resolver().resolve("name.test", 443)
    assert caught.value.status is Status.HOST_UNREACHABLE


class SlowNames:
    """A getaddrinfo that answers when `go` is set, and knows how many threads are in it."""

    def __init__(self):
        self.go = threading.Event()
        self.inside = 0
        self.most = 0
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, *_, **__):
        with self._lock:
            self.calls += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.go.wait(60)
        with self._lock:
            self.inside -= 1
        return infos("1.1.1.1")


def outcome(resolver):
    try:
        return resolver.resolve("name.test", 443)
    except TargetError as error:
        return error


def test_a_full_resolver_says_so_and_recovers(monkeypatch):
    slow = SlowNames()
    answers(monkeypatch, slow)
    resolver = Resolver(threads=2, waiting=3)
    jobs = [gevent.spawn(outcome, resolver) for _ in range(20)]
    until(lambda: slow.inside == 2 and sum(job.ready() for job in jobs) > 10)
    refused = [job.value for job in jobs if job.ready()]
    slow.go.set()
    gevent.joinall(jobs)
    assert {(error.status, str(error)) for error in refused} == {(Status.FAILURE, "resolver is full")}
    assert sum(isinstance(job.value, list) for job in jobs) == 20 - len(refused)
    assert slow.most == 2
    assert resolver.resolve("name.test", 443) == [(native.AF_INET, "1.1.1.1")]


def test_a_time_out_does_not_give_the_thread_away(monkeypatch):
    slow = SlowNames()
    answers(monkeypatch, slow)
    resolver = Resolver(threads=2, waiting=100, timeout=0.05)
    for _ in range(3):
        jobs = [gevent.spawn(outcome, resolver) for _ in range(10)]
        gevent.joinall(jobs)
        assert {str(job.value) for job in jobs} == {"name look-up timed out"}
        assert {job.value.status for job in jobs} == {Status.HOST_UNREACHABLE}
    assert slow.most == 2
    slow.go.set()
    until(lambda: slow.inside == 0)
    assert slow.calls <= 3  # who gave up in line is not looked up afterwards
    until(lambda: isinstance(outcome(resolver), list))


def test_others_run_while_a_look_up_blocks(monkeypatch, listener):
    slow = SlowNames()
    answers(monkeypatch, slow)
    resolver = Resolver(threads=1)
    job = gevent.spawn(outcome, resolver)
    until(lambda: slow.inside == 1)
    Dialer(LOCAL, resolver).connect(Address(*listener.getsockname())).close()
    assert not job.ready()
    slow.go.set()
    assert isinstance(job.get(), list)
