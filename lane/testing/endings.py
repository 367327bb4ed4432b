"""The contract of how a stream ends, as tests: half-close, close, abort and reset.

An end of data is never mistaken for an error, nor an error for an end.
"""

import traceback

import gevent
import pytest

from lane.errors import Closed, Reset
from lane.testing.harness import (
    PATIENCE,
    Flood,
    Kit,
    outcome,
    pattern,
    read_all,
    read_to_error,
    until,
)
from lane.testing.streams import both_sides, ends


class EndingContract:
    """See `lane.testing.TransportContract`."""

    buffered_limit: int

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

    @pytest.mark.parametrize("ending", ["reset", "close"])
    def test_what_a_deadline_has_cut_is_no_whole(self, kit: Kit, ending: str) -> None:
        near, far = kit.stream()
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.5):
            near.sendall(bytes(self.buffered_limit + (1 << 20)))
        getattr(near, ending)()
        assert isinstance(read_to_error(far), Closed)
