"""Many packets in one system call, on real sockets: what arrives is what was sent, one by one or together."""

import errno
import math
import socket
from contextlib import ExitStack, contextmanager

import gevent
import pytest
from lane_quic.plugin import QuicTransport
from lane_quic.udp import offload, udp
from lane_quic.udp.sockets import _warn, _warn_of_small_buffers

from lane.stream import Address
from lane.testing.harness import Kit, until
from tests.support.clock import give_gevent
from tests.support.quic_endpoints import exchange

PATH = (None, None)


@contextmanager
def sockets(whose=(), **options):
    """A QuicSocket that sends, one that receives for `whose`, and what came to it: (datagram, path)."""
    came = []
    with ExitStack() as stack:
        near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        far.bind(("127.0.0.1", 0))
        near.connect(far.getsockname())

        def receive(datagrams, path, now):
            came.extend((datagram, path) for datagram in datagrams)
            return whose

        receiver = udp.QuicSocket(far, receive, **options)
        stack.callback(receiver.close)
        sender = udp.QuicSocket(near, lambda *_: [], **options)
        stack.callback(sender.close)
        yield sender, receiver, came


def datagrams(*sizes, path=PATH):
    return [(bytes((number % 256,)) * size, path) for number, size in enumerate(sizes)]


@pytest.mark.parametrize("offloads", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [
        (1200,),
        (1200,) * 64,
        (1200,) * 200,
        (1200, 1200, 300, 1200, 1200),
        (300, 1200, 1200),
        (1, 1, 1),
        (1400,) * 46 + (7,),
        (1500,) * 10,
    ],
)
def test_all_that_was_sent_arrives_in_order(sizes, offloads):
    with sockets(offloads=offloads) as (sender, _, came):
        sent = datagrams(*sizes)
        sender.send(sent)
        until(lambda: len(came) == len(sent))
        assert [data for data, _ in came] == [data for data, _ in sent]
        assert len({path for _, path in came}) == 1


@pytest.mark.parametrize("offloads", [True, False])
def test_a_train_arrives_as_its_datagrams(offloads):
    sizes = (1400,) * 40 + (7,)
    with sockets(offloads=offloads) as (sender, _, came):
        sent = datagrams(*sizes)
        train = offload.Train(b"".join(data for data, _ in sent), 1400)
        assert (train.count, len(train)) == (len(sizes), sum(sizes))
        for _ in range(2):
            sender.send([*datagrams(5), (train, PATH), *datagrams(5, 5)])
        until(lambda: len(came) == 2 * (len(sent) + 3))
        both = [data for data, _ in [*datagrams(5), *sent, *datagrams(5, 5)]]
        assert [data for data, _ in came] == both * 2


def test_what_comes_in_turn_from_one_path_is_told_of_together(monkeypatch):
    monkeypatch.setattr(
        udp, "SPARSE", math.inf
    )  # otherwise the first packet is read alone where this took long
    rows = []
    with ExitStack() as stack:
        far, *near = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3))
        far.bind(("127.0.0.1", 0))
        for number, sock in enumerate((near[0], near[0], near[1], near[0])):
            stack.enter_context(sock)
            sock.sendto(bytes((number,)) * 1200, far.getsockname())
        names = [sock.getsockname()[1] for sock in near]
        receiver = udp.QuicSocket(far, lambda data, path, now: rows.append((path[0], data)) or [])
        stack.callback(receiver.close)
        until(lambda: len(rows) == 3)
    assert [name[1] for name, _ in rows] == [names[0], names[1], names[0]]
    assert [[data[0] for data in row] for _, row in rows] == [[0, 1], [2], [3]]


def test_what_may_leave_at_once():
    other = ("elsewhere", ())
    for sizes, paths, count in (
        ((5, 5, 5), "aaa", 3),
        ((5, 5, 3, 5), "aaaa", 3),
        ((5, 6), "aa", 1),
        ((5, 5, 5), "aab", 2),
        ((5,) * 100, "a" * 100, offload.MOST_SEGMENTS),
        ((9000,) * 20, "a" * 20, 7),
    ):
        batch = [
            (bytes(size), PATH if path == "a" else other) for size, path in zip(sizes, paths, strict=True)
        ]
        assert offload.together(batch, 0) == count
        total = sum(len(data) for data, _ in batch[:count])
        assert total <= offload.MOST_BYTES
    assert offload.together([(b"xx", PATH), (b"x", PATH), (b"x", PATH)], 1) == 2


class Whose:
    """A `udp.DatagramReceiver`."""

    def __init__(self, patience):
        self._patience = patience
        self.count = 0  # of batches

    def act(self):
        self.count += 1
        return self._patience


class Refusing:
    """A socket whose kernel takes no segments."""

    def __init__(self, sock, number):
        self._sock, self._number = sock, number
        self.refused = 0

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def sendmsg(self, buffers, ancillary=(), flags=0, address=None):
        if any(level == 17 for level, _, _ in ancillary):
            self.refused += 1
            raise OSError(self._number, "no")
        return self._sock.sendmsg(buffers, ancillary, flags, address)


def as_train(batch):
    return [(offload.Train(b"".join(data for data, _ in batch), len(batch[0][0])), PATH)]


@pytest.mark.parametrize("form", [list, as_train])
@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_a_kernel_that_refuses_is_asked_once(number, form):
    with sockets() as (sender, _, came):
        sender._sock = refusing = Refusing(sender._sock, number)
        sender._segments = True
        for _ in range(3):
            sender.send(form(datagrams(*(1200,) * 50)))
        until(lambda: len(came) == 150)
        assert [data[0] for data, _ in came] == [*range(50)] * 3
        assert refusing.refused == 1
        assert not sender._segments


@pytest.mark.parametrize("form", [list, as_train])
def test_a_path_that_takes_nothing_is_no_reason_for_others_to_do_without(form):
    with sockets() as (sender, _, came):
        sender._segments = True
        real, sender._sock = sender._sock, Refusing(sender._sock, errno.EINVAL)
        sender._sock.sendmsg = lambda *_: (_ for _ in ()).throw(OSError(errno.EINVAL, "no such port"))
        sender.send(form(datagrams(*(1200,) * 50)))
        assert sender._segments
        sender._sock = real
        sender.send(datagrams(*(1200,) * 5))
        until(lambda: len(came) == 5)


def test_what_waits_for_a_full_socket_is_bounded_in_datagrams():
    with sockets() as (sender, _, came):
        sender._segments = True
        real, sender._sock = sender._sock, Refusing(sender._sock, errno.EAGAIN)
        for _ in range(udp.BACKLOG // 50 + 2):
            sender.send(as_train(datagrams(*(12,) * 50)))
        assert len(sender._backlog) == udp.BACKLOG
        assert all(isinstance(data, bytes) for data, _ in sender._backlog)
        sender._sock = real
        until(lambda: len(came) == udp.BACKLOG)


def test_a_kernel_without_segments_is_none_at_all(monkeypatch):
    monkeypatch.setattr(offload, "_LINUX", False)
    with sockets() as (sender, _, came):
        assert not sender._segments
        sender.send(datagrams(*(1200,) * 50))
        until(lambda: len(came) == 50)


def test_a_bulk_takes_few_system_calls(monkeypatch):
    calls = {"send": 0, "packets": 0}
    real = udp.QuicSocket._send

    def counting(self, batch):
        calls["send"] += 1
        calls["packets"] += len(offload.apart(batch))
        return real(self, batch)

    monkeypatch.setattr(udp.QuicSocket, "_send", counting)
    kit = Kit(QuicTransport(), Address("127.0.0.1", 0))
    try:
        near, far = kit.dial()
        exchange(near, far, 8_000_000)
    finally:
        kit.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        together = offload.can_segment(sock)
    assert (calls["packets"] > 2.5 * calls["send"]) == together


class Small:
    """A socket that got less than it asked for."""

    family = socket.AF_INET

    def getsockopt(self, level, option):
        return 212992


def test_small_buffers_are_told_of_once_with_what_helps(caplog):
    _warn.cache_clear()
    for _ in range(3):
        _warn_of_small_buffers(Small())
    (record,) = caplog.records
    assert "sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304" in record.getMessage()


@pytest.mark.parametrize(
    ("size", "patience", "most"),
    [
        (udp.BULK_SIZE - 1, udp.GATHER_MOST, 0),
        (udp.BULK_SIZE, udp.GATHER_MOST, udp.GATHER_MOST),
        (udp.BULK_SIZE, udp.GATHER_HURRIED, udp.GATHER_HURRIED),
        (udp.BULK_SIZE, 0.0, 0),
    ],
)
def test_packets_of_a_bulk_gather_until_it_ends_and_others_do_not(monkeypatch, size, patience, most):
    pauses = []

    def sleep(seconds):
        if seconds != udp.BACK_OFF:  # that is not to gather: the kernel had nothing after all
            pauses.append(seconds)
        gevent.sleep(seconds)

    give_gevent(monkeypatch, udp, sleep=sleep)
    with sockets(whose=[Whose(patience)]) as (sender, receiver, came):
        sender.send(datagrams(*(size,) * 200))
        until(lambda: len(came) == 200)
        until(lambda: receiver._readable.callback is not None)  # it waits again
    assert bool(pauses) == bool(most)
    assert max(pauses, default=0) <= most


def test_packets_that_wait_are_read_together_however_busy_the_loop_is(monkeypatch):
    """Where each turn of the loop takes long, any packet seems to come alone."""
    monkeypatch.setattr(udp, "SPARSE", -1.0)
    batches = Whose(udp.GATHER_MOST)
    with sockets(whose=[batches], offloads=False) as (sender, _, came):
        sender.send(datagrams(7))
        until(lambda: came)
        batches.count = 0
        sender.send(datagrams(*(7,) * 200))
        until(lambda: len(came) == 201)
    assert batches.count <= udp.ALONE + 200 / udp.BATCH + 1
