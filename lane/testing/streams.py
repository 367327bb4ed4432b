"""The contract of one stream, as tests: bytes, ends, resets and back-pressure."""

import traceback

import gevent
import pytest

from lane.errors import Closed, Reset
from lane.stream import Stream, joiner
from lane.testing.harness import (
    PATIENCE,
    Flood,
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

    @both_sides
    def test_the_other_direction_goes_on_after_an_end(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        near.sendall(b"question")
        near.finish()
        assert read_all(far) == b"question"
        answer = pattern(1 << 20)
        sending = gevent.spawn(far.sendall, answer)
        received = b""
        while len(received) < len(answer):
            received += near.recv()
        assert received == answer
        sending.get()
        far.finish()
        assert near.recv() == b""

    def test_an_end_stays_an_end(self, kit: Kit) -> None:
        near, far = kit.stream()
        near.finish()
        assert [far.recv() for _ in range(3)] == [b"", b"", b""]
        far.sendall(b"still open")
        assert near.recv() == b"still open"

    def test_finish_and_close_may_be_repeated(self, kit: Kit) -> None:
        near, far = kit.stream()
        near.finish()
        near.finish()
        assert far.recv() == b""
        far.close()
        far.close()
        assert near.recv() == b""
        near.close()
        near.close()

    def test_nothing_can_be_sent_after_an_end(self, kit: Kit) -> None:
        near, far = kit.stream()
        near.finish()
        with pytest.raises(Closed):
            near.sendall(b"late")
        assert far.recv() == b""

    @both_sides
    def test_a_direction_is_aborted_past_what_waits(self, kit: Kit, swap: bool) -> None:
        """See `lane.stream.AbortsSending`."""
        near, far = ends(kit, swap)
        if not (abort := getattr(near, "abort_sending", None)):
            pytest.skip("its resets have no codes")
        flood = Flood(near)
        flood.wait_until_blocked()
        abort(7)
        assert isinstance(flood.failure.get(), Closed)
        error = read_to_error(far)
        assert isinstance(error, Reset)
        assert error.code == 7

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
    def test_close_finishes(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        data = pattern(100_000)
        near.sendall(data)
        near.close()
        assert read_all(far) == data

    def test_a_closed_stream_can_not_be_used(self, kit: Kit) -> None:
        near, _ = kit.stream()
        near.close()
        assert isinstance(outcome(near.recv), Closed)
        assert isinstance(outcome(near.sendall, b"late"), Closed)

    def test_close_does_not_need_the_end_to_be_read(self, kit: Kit) -> None:
        near, far = kit.stream()
        near.finish()
        near_reads = gevent.spawn(read_all, near)
        data = pattern(100_000)
        far.sendall(data)
        far.close()
        assert near_reads.get() == data

    @both_sides
    def test_close_with_input_that_nobody_read_is_no_end(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        near.sendall(b"not all of this is read")
        assert far.recv(1) == b"n"
        far.close()
        assert isinstance(read_to_error(near), Closed)

    @both_sides
    def test_a_reset_is_no_end(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        near.sendall(b"data")
        near.reset(7)
        assert isinstance(read_to_error(far), Closed)
        assert isinstance(outcome(far.recv), Closed), "an error does not turn into an end later"
        assert isinstance(Flood(far).failure.get(), Closed)

    @both_sides
    def test_an_error_that_is_raised_again_has_not_grown(self, kit: Kit, swap: bool) -> None:
        """A stored exception that is raised again refers to the frames of all earlier callers."""
        near, far = ends(kit, swap)
        near.reset()
        read_to_error(far)
        Flood(far).failure.get()
        for call, *arguments in ((far.recv,), (far.sendall, b"late")):
            sizes = {len(traceback.extract_tb(outcome(call, *arguments).__traceback__)) for _ in range(4)}
            assert len(sizes) == 1

    def test_a_reset_that_the_writer_saw_is_no_end_to_the_reader(self, kit: Kit) -> None:
        near, far = kit.stream()
        writing = Flood(far)
        near.reset()
        assert isinstance(writing.failure.get(), Closed)
        assert isinstance(outcome(far.recv), Closed)

    def test_a_reset_after_an_end_is_no_error_for_what_was_whole(self, kit: Kit) -> None:
        near, far = kit.stream()
        near.sendall(b"whole")
        near.finish()
        assert read_all(far) == b"whole"
        near.reset()
        assert isinstance(Flood(far).failure.get(), Closed)

    @both_sides
    def test_a_reset_wakes_both_greenlets_here(self, kit: Kit, swap: bool) -> None:
        near, _ = ends(kit, swap)
        reading = gevent.spawn(outcome, near.recv)
        writing = Flood(near)
        writing.wait_until_blocked()
        near.reset()
        assert isinstance(reading.get(), Closed)
        assert isinstance(writing.failure.get(), Closed)
        near.reset()
        near.close()

    @both_sides
    def test_a_reset_wakes_both_greenlets_there(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        reading = gevent.spawn(outcome, far.recv)
        writing = Flood(far)
        writing.wait_until_blocked()
        near.reset()
        assert isinstance(reading.get(), Closed)
        assert isinstance(writing.failure.get(), Closed)

    @both_sides
    def test_close_wakes_the_reader(self, kit: Kit, swap: bool) -> None:
        near, _ = ends(kit, swap)
        reading = gevent.spawn(outcome, near.recv)
        gevent.idle()
        near.close()
        assert isinstance(reading.get(), Closed)

    @both_sides
    def test_close_wakes_the_writer_and_is_no_end_then(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        writing = Flood(near)
        writing.wait_until_blocked()
        near.close()
        assert isinstance(writing.failure.get(), Closed)
        assert isinstance(read_to_error(far), Closed)

    @both_sides
    def test_closing_while_the_peer_still_sends(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        writing = Flood(far)
        writing.wait_until_blocked()
        near.close()
        assert isinstance(writing.failure.get(), Closed)
        assert isinstance(read_to_error(far), Closed)

    @both_sides
    def test_closing_between_two_reads_of_what_the_peer_still_sends(self, kit: Kit, swap: bool) -> None:
        near, far = ends(kit, swap)
        writing, came = Flood(far), 0

        def read() -> Exception:
            nonlocal came
            while not isinstance(result := outcome(near.recv), Exception):
                assert result, "a stream that was closed looked like a clean end"
                came += len(result)
            return result

        reading = gevent.spawn(read)
        until(lambda: came > 1 << 20)
        near.close()
        assert isinstance(reading.get(), Closed)
        assert isinstance(writing.failure.get(), Closed)

    @both_sides
    @pytest.mark.parametrize("what", ["stream", "carrier", "both"])
    def test_an_end_that_comes_after_a_close_destroys_nothing(self, kit: Kit, what: str, swap: bool) -> None:
        """To the kernel a framed end is data. It answers data for a closed socket with RST."""
        near, far = ends(kit, swap)
        mine, _ = kit.last[::-1] if swap else kit.last
        data = pattern(100_000)
        near.sendall(data)
        near.finish() if what == "carrier" else near.close()
        closing = gevent.spawn(mine.close, PATIENCE) if what != "stream" else None
        gevent.sleep(0)
        outcome(far.finish)
        assert read_all(far) == data
        if closing:
            closing.get()

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

    @pytest.mark.parametrize("ending", ["reset", "close"])
    def test_what_a_deadline_has_cut_is_no_whole(self, kit: Kit, ending: str) -> None:
        near, far = kit.stream()
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.5):
            near.sendall(bytes(self.buffered_limit + (1 << 20)))
        getattr(near, ending)()
        assert isinstance(read_to_error(far), Closed)
