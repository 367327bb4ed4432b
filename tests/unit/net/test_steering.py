"""The programs that steer, in a real group of sockets: each packet comes to the worker that it should."""

import socket
from contextlib import ExitStack

import pytest

from lane.net import steering
from lane.net.listen import open_group
from lane.net.prepared import Wanted

WORKERS = (2, 3, 4)
DEADLINE = 10.0
LONG, SHORT = 0xC0, 0x40


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def group(stack, kind, host, workers, spread, *, quic=True):
    """The sockets of the workers, with their program."""
    try:
        socks = [one for (one,) in open_group(Wanted(kind, host, 0, 64, quic, ((host, 0),)), 1)]
        port = socks[0].getsockname()[1]
        socks[0].close()
        socks = [one for (one,) in open_group(Wanted(kind, host, port, 64, quic, ((host, port),)), workers)]
    except OSError as error:
        pytest.skip(f"{host}: {error}")
    for sock in socks:
        stack.enter_context(sock)
        sock.setblocking(False)
    steering.attach(socks[0], workers, spread, quic=quic)
    return socks, port


def sent(stack, socks, to, datagram, source=None):
    """The worker that a datagram reached, which came from a port of its own."""
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    sender = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    if source is not None:
        sender.bind((source, 0))
    sender.sendto(datagram, to)
    return reached(socks, lambda sock: sock.recv(2000) == datagram)


def reached(socks, take):
    for number, sock in enumerate(socks):  # over loopback it is there as soon as it was sent
        try:
            if take(sock):
                return number
        except BlockingIOError:
            pass
    raise AssertionError("it came to nobody")


@pytest.mark.parametrize("spread", ["address", "connection"])
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(
    ("host", "to"), [("127.0.0.1",) * 2, ("::1",) * 2, ("::", "127.0.0.1"), ("::", "::1")]
)
def test_a_short_header_comes_to_the_worker_that_its_connection_id_names(stack, host, to, workers, spread):
    socks, port = group(stack, socket.SOCK_DGRAM, host, workers, spread)
    for first in range(0, 256, 7):
        assert sent(stack, socks, (to, port), bytes((SHORT, first, 1, 2, 3))) == first % workers


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_long_header_comes_to_the_worker_of_its_address(stack, host, workers):
    socks, port = group(stack, socket.SOCK_DGRAM, host, workers, "address")
    found = set()
    for last in range(1, 30):
        source = f"127.0.0.{last}"
        number = sent(stack, socks, ("127.0.0.1", port), bytes((LONG, last, 1, 2, 3)), source)
        assert (
            number == steering.worker_of(source, workers) == steering.worker_of(f"::ffff:{source}", workers)
        )
        found.add(number)
    assert found == set(range(workers))


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_both_transports_of_a_client_meet_in_one_worker(stack, workers, kind):
    for host, source in [
        ("127.0.0.1", "127.0.0.9"),
        ("127.0.0.1", "127.0.3.7"),
        ("::1", "::1"),
        ("::", "::1"),
    ]:
        socks, port = group(stack, kind, host, workers, "address", quic=kind == socket.SOCK_DGRAM)
        to = ("::1" if ":" in host else "127.0.0.1", port)
        for _ in range(5):
            if kind == socket.SOCK_DGRAM:
                number = sent(stack, socks, to, bytes((LONG, 1)), source)
            else:
                stack.enter_context(socket.create_connection(to, DEADLINE, (source, 0)))
                number = reached(socks, lambda sock: stack.enter_context(sock.accept()[0]))
            assert number == steering.worker_of(source, workers)


def test_connections_of_one_address_are_spread_by_the_kernel(stack):
    socks, port = group(stack, socket.SOCK_DGRAM, "127.0.0.1", 2, "connection")
    found = {sent(stack, socks, ("127.0.0.1", port), bytes((LONG, 1))) for _ in range(100)}
    assert found == {0, 1}
    socks, port = group(stack, socket.SOCK_STREAM, "127.0.0.1", 2, "connection", quic=False)
    found = set()
    for _ in range(100):
        stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE))
        found.add(reached(socks, lambda sock: stack.enter_context(sock.accept()[0])))
    assert found == {0, 1}


def test_a_datagram_without_a_connection_id_does_no_harm(stack):
    socks, port = group(stack, socket.SOCK_DGRAM, "127.0.0.1", 2, "address")
    for datagram in (b"", b"\x40", b"\xc0"):
        sent(stack, socks, ("127.0.0.1", port), datagram)


def test_the_prefix_of_an_ipv6_address_counts():
    assert len({steering.worker_of(f"2001:db8:1:2::{n:x}", 4) for n in range(50)}) == 1
    assert len({steering.worker_of(f"2001:db8:1:{n:x}::1", 4) for n in range(50)}) == 4
