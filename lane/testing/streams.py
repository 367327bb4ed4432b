"""The contract of the data of one stream, as tests: bytes, short messages and back-pressure."""

import gevent
import pytest

from lane.errors import Closed
from lane.stream import Stream, joiner
from lane.testing.harness import (
    Kit,
    echo,
    outcome,
    pattern,
    read_all,
    read_to_error,
    send_all,
    settled,
    until,
)

both_sides = pytest.mark.parametrize("swap", [False, True], ids=["opener", "accepter"])


def ends(kit: Kit, swap: bool) -> tuple[Stream, Stream]:
    """Two ends of a stream: first the acting end of the test, then the other."""
    opened, accepted = kit.stream()
    return (accepted, opened) if swap else (opened, accepted)


class StreamContract:
    """See `lane.testing.TransportContract`."""

    buffered_limit: int

    def test_echo(self, kit: Kit) -> None:
        near, far = kit.stream()
        gevent.spawn(echo, far)
        near.sendall(b"one")
        assert near.recv() == b"one"
        near.sendall(b"")
        near.sendall(memoryview(b"two"))
        near.finish()
        assert read_all(near) == b"two"

    @pytest.mark.parametrize("size", [0, 1, 16380, 16381, 130560, 400_000])
    @pytest.mark.parametrize("length", [4, 20_000])
    def test_a_head_and_what_is_behind_it(self, kit: Kit, length: int, size: int) -> None:
        near, far = kit.stream()
        head, data = pattern(length, 1), pattern(size, 2)
        reading = gevent.spawn(read_all, far)
        joiner(near)(head, memoryview(data))
        joiner(near)(head, bytearray(data))
        near.finish()
        assert reading.get() == 2 * (head + data)

    @both_sides
    def test_single_bytes(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        data = pattern(300)
        for byte in data:
            near.sendall(bytes((byte,)))
        near.finish()
        assert read_all(far) == data

    def test_large_writes_both_ways_at_once(self, kit: Kit) -> None:
        near, far = kit.stream()
        up, down = pattern(8 << 20, 1), pattern(8 << 20, 2)

        senders = [gevent.spawn(send_all, near, up), gevent.spawn(send_all, far, down)]
        reading = gevent.spawn(read_all, far)
        assert read_all(near) == down
        assert reading.get() == up
        gevent.joinall(senders, raise_error=True)

    def test_what_is_sent_without_a_wait_arrives_whole(self, kit: Kit) -> None:
        """See `lane.stream.SendsNow`."""
        near, far = kit.stream()
        if not (send_now := getattr(near, "send_now", None)):
            pytest.skip("it can't")
        block, sent = pattern(60_000), 1
        while send_now(block):
            sent += 1
        reading = gevent.spawn(read_all, far)
        near.sendall(b"")
        assert send_now(b"the end")
        near.finish()
        assert reading.get() == block * sent + b"the end"

    @both_sides
    def test_short_messages_need_no_reader(self, kit: Kit, swap: bool) -> None:
        """See `lane.stream.HandsShort`."""
        near, far = ends(kit, swap)
        if not (hand_short_to := getattr(far, "hand_short_to", None)):
            pytest.skip("it wakes its reader")
        came, by_reader = bytearray(), []

        def take(data: bytes | memoryview) -> bool:
            if bytes(data) == b"for the reader":
                return False
            came.extend(data)
            return True

        def read() -> None:
            while data := far.recv():
                came.extend(data)
                by_reader.append(bytes(data))

        hand_short_to(take)
        reading, sent = gevent.spawn(read), bytearray()
        gevent.idle()
        for message in (b"for nobody", b"for the reader", b"for nobody", pattern(200_000), b"for nobody"):
            near.sendall(message)
            sent.extend(message)
            until(lambda: came == sent)
        assert by_reader[0] == b"for the reader"
        assert b"for nobody" not in by_reader
        hand_short_to(None)
        near.sendall(b"the end")
        near.finish()
        reading.get()
        assert came == sent + b"the end"

    def test_a_failure_to_take_a_message_is_one_of_the_reader(self, kit: Kit) -> None:
        """See `lane.stream.HandsShort`."""
        near, far = kit.stream()
        if not (hand_short_to := getattr(far, "hand_short_to", None)):
            pytest.skip("it wakes its reader")

        def take(data: bytes | memoryview) -> bool:
            raise Closed("this one")

        hand_short_to(take)
        reading = gevent.spawn(outcome, far.recv)
        gevent.idle()
        near.sendall(b"a message")
        assert isinstance(reading.get(), Closed)

    @both_sides
    def test_a_stream_carries_a_further_session_once_all_has_arrived(self, kit: Kit, swap: bool) -> None:
        """See `lane.stream.Renews`."""
        near, far = ends(kit, swap)
        if not (renew := getattr(near, "renew", None)):
            pytest.skip("a carrier has one stream, or each session has its own")
        for _ in range(2):
            near.sendall(b"question")
            assert far.recv() == b"question"
            far.sendall(b"answer")
            assert near.recv() == b"answer"
            until(renew)
        far.finish()
        assert near.recv() == b""
        assert not renew()
        near.finish()

    @both_sides
    def test_a_stream_that_was_reset_carries_no_further_session(self, kit: Kit, swap: bool) -> None:
        """See `lane.stream.Renews`."""
        near, far = ends(kit, swap)
        if not (renew := getattr(near, "renew", None)):
            pytest.skip("a carrier has one stream, or each session has its own")
        far.reset()
        read_to_error(near)
        assert not renew()

    @both_sides
    def test_a_sender_that_outruns_the_reader_blocks(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        block = pattern(65536)
        blocks = self.buffered_limit // len(block) + 16
        sent = 0

        def send() -> None:
            nonlocal sent
            for _ in range(blocks):
                near.sendall(block)
                sent += 1
            near.finish()

        sending = gevent.spawn(send)
        assert settled(lambda: sent) < blocks, "the sender never blocked"
        received, good = 0, True
        while data := far.recv():
            start = received % len(block)
            good = good and (block * (2 + len(data) // len(block)))[start : start + len(data)] == data
            received += len(data)
        sending.get()
        assert (received, good) == (blocks * len(block), True)

    def test_a_buffer_may_be_changed_after_sendall(self, kit: Kit) -> None:
        near, far = kit.stream()
        buffer = bytearray(b"a" * 100_000)
        near.sendall(buffer)
        buffer[:] = b"b" * 100_000
        near.sendall(memoryview(buffer)[:10])
        buffer[:10] = b"c" * 10
        near.finish()
        assert read_all(far) == b"a" * 100_000 + b"b" * 10

    def test_recv_gives_no_more_than_its_limit(self, kit: Kit) -> None:
        near, far = kit.stream()
        data = pattern(50_000)  # every transport accepts this much while nobody reads
        near.sendall(data)
        near.finish()
        received = b""
        for limit in (1, 3, 1000, 16385):
            piece = far.recv(limit)
            assert 1 <= len(piece) <= limit
            received += piece
        assert received + read_all(far) == data

    def test_a_deadline_leaves_a_reader_usable(self, kit: Kit) -> None:
        near, far = kit.stream()
        for _ in range(3):
            with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
                far.recv()
        near.sendall(b"late")
        assert far.recv() == b"late"
