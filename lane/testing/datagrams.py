"""The contract of datagrams, as tests. They are skipped if carriers have no datagrams.

A datagram may be lost, even on loopback. So the tests repeat a datagram that must arrive.
"""

from collections import Counter

import gevent
import pytest

from lane.errors import Closed
from lane.stream import Carrier, Datagrams
from lane.testing.harness import Kit, outcome, pattern, settled, until

both_ends = pytest.mark.parametrize("swap", [False, True], ids=["dialled", "accepted"])
LONG_ENOUGH = 0.3
"""Seconds without a datagram after which no more will arrive."""


def ends(kit: Kit, swap: bool) -> tuple[Datagrams, Datagrams]:
    """The datagrams of both ends of a new carrier: first the acting end of the test, then the other."""
    mine, other = kit.dial()[::-1] if swap else kit.dial()
    if mine.datagrams is None or other.datagrams is None:
        pytest.skip("a transport without datagrams")
    return mine.datagrams, other.datagrams


class Reader:
    """Reads datagrams in a greenlet. `came` has the received ones."""

    def __init__(self, datagrams: Datagrams) -> None:
        self.came: list[bytes] = []
        self._datagrams = datagrams
        self._greenlet = gevent.spawn(outcome, self._run)

    def _run(self) -> None:
        while True:
            self.came.append(self._datagrams.recv())

    def all(self) -> list[bytes]:
        """Wait until no more datagrams arrive, and return all of them."""
        settled(lambda: len(self.came))
        self._greenlet.kill()
        return self.came


def deliver(near: Datagrams, reader: Reader, data: bytes) -> None:
    """Send `data` until it has arrived."""

    def arrived() -> bool:
        assert near.send(data)
        with gevent.Timeout(LONG_ENOUGH, False):
            until(lambda: data in reader.came)
        return data in reader.came

    until(arrived)


def numbered(size: int, number: int) -> bytes:
    """A datagram of `size` bytes with its number."""
    return number.to_bytes(4, "big") + pattern(size - 4, number)


class DatagramContract:
    """See `lane.testing.TransportContract`."""

    datagram_limit: int

    def abrupt(self, carrier: Carrier) -> None:
        raise NotImplementedError

    def test_they_are_handed_over(self, kit: Kit) -> None:
        """See `lane.stream.HandsOver`."""
        near, far = ends(kit, False)
        if not (hand_to := getattr(far, "hand_to", None)):
            pytest.skip("they can't be")
        came: list[bytes] = []
        hand_to(came.append)
        until(lambda: near.send(b"one") and b"one" in came)
        until(lambda: near.send(b"two") and b"two" in came)

    @both_ends
    def test_datagrams_arrive_whole_and_once(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        here, there = Reader(near), Reader(far)
        up = [numbered(4 + 17 * number % (near.max_size - 4), number) for number in range(200)]
        down = [numbered(4 + 31 * number % (far.max_size - 4), 1000 + number) for number in range(200)]
        for one, other in zip(up, down, strict=True):
            assert near.send(one)
            assert far.send(other)
            gevent.sleep(0.001)
        for sent, reader in ((up, there), (down, here)):
            came = reader.all()
            assert len(came) > len(sent) // 2, "hardly any is lost on this machine"
            assert set(came) <= set(sent)
            assert max(Counter(came).values()) == 1

    @both_ends
    def test_the_largest_datagram_arrives_and_a_larger_one_is_refused(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        reader = Reader(far)
        taken: set[bytes] = set()

        def largest_arrives() -> bool:
            largest = near.max_size  # it may change whenever other greenlets run
            data = pattern(largest, len(taken))
            assert not near.send(data + b"!")
            assert not near.send(bytes(1 << 20))
            assert near.send(data)
            taken.add(data)
            with gevent.Timeout(LONG_ENOUGH, False):
                until(lambda: data in reader.came)
            return data in reader.came

        for number in range(3):
            until(largest_arrives)
            behind = b"behind it %d" % number
            taken.add(behind)
            deliver(near, reader, behind)
        assert set(reader.came) <= taken

    def test_an_empty_datagram_is_one(self, kit: Kit) -> None:
        near, far = ends(kit, False)
        deliver(near, Reader(far), b"")

    def test_datagrams_go_beside_streams(self, kit: Kit) -> None:
        near, far = ends(kit, False)
        opened, accepted = kit.stream()
        reader = Reader(far)
        writing = gevent.spawn(outcome, opened.sendall, bytes(64 << 20))
        received = 0
        for number in range(50):
            deliver(near, reader, numbered(100, number))
            received += len(accepted.recv())
        opened.reset()
        writing.get()
        assert received > 0

    @both_ends
    def test_a_flood_that_nobody_reads_is_bounded_and_the_newest_survive(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        size = near.max_size // 2
        count = 2 * self.datagram_limit // size
        for number in range(count):
            assert near.send(numbered(size, number))
            if number % 32 == 0:
                gevent.sleep(0.001)  # let the other end run
        came = [int.from_bytes(data[:4], "big") for data in Reader(far).all()]
        assert 0 < len(came) * size <= self.datagram_limit
        assert max(came) > 0.95 * count
        assert min(came) > 0.25 * count

    def test_sending_never_blocks(self, kit: Kit) -> None:
        near, _ = ends(kit, False)
        size = near.max_size
        others: list[int] = []
        gevent.spawn(others.append, 1)
        assert all(near.send(pattern(size, 0)) for _ in range(3000))
        assert not others, "nobody else has run"

    @both_ends
    def test_datagrams_end_with_the_carrier(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        mine, other = kit.last[::-1] if swap else kit.last
        reading = [gevent.spawn(outcome, end.recv) for end in (near, far)]
        gevent.idle()
        self.abrupt(other)
        assert all(isinstance(one.get(), Closed) for one in reading)
        until(lambda: mine.closed)
        for end in (near, far):
            assert isinstance(outcome(end.recv), Closed)
            assert not end.send(b"late")

    @both_ends
    def test_closing_a_carrier_ends_its_datagrams(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        mine, other = kit.last[::-1] if swap else kit.last
        near.send(b"just before")
        reading = gevent.spawn(outcome, near.recv)
        gevent.idle()
        mine.close()
        assert isinstance(reading.get(), Closed)
        assert not near.send(b"late")
        until(lambda: other.closed)
        assert not far.send(b"late")
        Reader(far).all()
        assert isinstance(outcome(far.recv), Closed)
