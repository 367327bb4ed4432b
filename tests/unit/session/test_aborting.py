"""How an abort is said: in order, then past what waits, and until it was heard. Streams are stubs."""

import gevent
import pytest
from gevent.event import Event

from lane.budget import Budget
from lane.errors import Closed, Reset
from lane.proto.frames import ResetFrame, aborted, pack, reset_code
from lane.session import aborting as module
from lane.session.owner import Owner
from lane.session.session import Session
from lane.stream import LinkStats
from lane.testing.harness import outcome, until

CODE = 6


@pytest.fixture(autouse=True)
def _watchdog():
    with gevent.Timeout(30, AssertionError("the test hangs")):
        yield


class Slow:
    """A stream that takes what it is given once `open` is set; `answer` is what its peer ends it with."""

    def __init__(self):
        self.open, self.answered = Event(), Event()
        self.answer, self.said, self.done = Reset(), [], []

    def sendall(self, data):
        self.open.wait()
        self._alive()
        self.said.append(bytes(data))

    def finish(self):
        self._alive()
        self.done.append("finish")

    def reset(self, code=0):
        self.done.append(("reset", code))
        self.answer = Closed("reset here")
        self.open.set()
        self.answered.set()

    def recv(self, limit=0):
        self.answered.wait()
        if self.answer == b"":
            return b""
        raise self.answer

    def lose(self):
        self.answer = Closed("the carrier is lost")
        self.open.set()
        self.answered.set()

    def _alive(self):
        if isinstance(self.answer, Closed) and not isinstance(self.answer, Reset):
            raise self.answer


class Overtaking(Slow):
    """One whose resets have codes."""

    def abort_sending(self, code):
        self.done.append(("abort", code))


def session():
    return Session(1 << 20, 1 << 20, Budget(1 << 30), Owner(), resumable=True)


def parted(stream, **how):
    """A session on `stream` that was reset, and the greenlet that carries it."""
    made = session()
    job = gevent.spawn(made.carry, stream, LinkStats, **how)
    until(lambda: made.carried)
    made.reset(CODE)
    return made, job


def test_it_is_said_in_order_and_waits_until_it_was_heard():
    stream = Overtaking()
    stream.open.set()
    made, job = parted(stream)
    until(lambda: "finish" in stream.done)
    assert stream.said[-1] == pack(ResetFrame(CODE))
    assert made.abort_unheard
    stream.answered.set()
    made.aborting.join()
    job.join()
    assert not made.abort_unheard
    assert stream.done == ["finish", ("reset", reset_code(CODE))]


@pytest.mark.parametrize("answer", [Reset(), b""])
def test_a_slow_stream_without_codes_gets_its_time(answer, monkeypatch):
    """Long after the time in which it would have been overtaken."""
    monkeypatch.setattr(module, "IN_ORDER", 0.0)
    stream = Slow()
    stream.answer = answer
    made, _ = parted(stream)
    for _ in range(10):
        gevent.sleep(0.001)
    assert stream.done == []
    stream.open.set()
    until(lambda: stream.done)
    assert stream.said[-1] == pack(ResetFrame(CODE))
    stream.answered.set()
    made.aborting.join()
    assert not made.abort_unheard


def test_a_slow_stream_with_codes_is_overtaken_and_waited_for(monkeypatch):
    monkeypatch.setattr(module, "IN_ORDER", 0.0)
    stream = Overtaking()
    made, _ = parted(stream)
    until(lambda: stream.done)
    assert stream.done == [("abort", reset_code(CODE))]
    assert made.abort_unheard
    stream.answered.set()
    made.aborting.join()
    assert not made.abort_unheard


@pytest.mark.parametrize("stream", [Slow(), Overtaking()], ids=["no codes", "codes"])
def test_it_is_given_up_in_the_end(stream, monkeypatch):
    monkeypatch.setattr(module, "IN_ORDER", 0.01)
    monkeypatch.setattr(module, "WITHIN", 0.01)
    made, job = parted(stream)
    made.aborting.join()
    job.join()
    assert ("reset", reset_code(CODE)) in stream.done
    assert ("reset", 0) not in stream.done[: stream.done.index(("reset", reset_code(CODE)))]
    assert made.abort_unheard


def test_a_lost_carrier_has_heard_nothing():
    stream = Slow()
    made, job = parted(stream)
    stream.lose()
    made.aborting.join()
    job.join()
    assert made.abort_unheard


def test_the_next_stream_says_it_then():
    made = session()
    made.reset(CODE)
    assert made.abort_unheard
    stream = Slow()
    stream.open.set()
    job = gevent.spawn(made.carry, stream, LinkStats, first=b"REPLY")
    until(lambda: stream.done)
    assert stream.said == [b"REPLY" + pack(ResetFrame(CODE))]
    stream.answered.set()
    assert job.get() is None
    assert not made.abort_unheard
    late = Slow()
    made.carry(late, LinkStats)
    assert late.done == [("reset", reset_code(0))], "it was heard: nothing more is said"
    assert late.said == []


@pytest.mark.parametrize(
    ("reset", "code"), [(0, None), (7, None), (reset_code(0), 0), (reset_code(CODE), CODE)]
)
@pytest.mark.parametrize("way", ["reads", "writes"])
def test_what_the_reset_of_a_stream_says_of_its_session(way, reset, code):
    """Also where it is met by who writes, before who reads."""
    stream, made = Slow(), session()
    job = gevent.spawn(made.carry, stream, LinkStats)
    until(lambda: made.carried)
    stream.answer = Reset(reset)
    if way == "writes":
        stream._alive = lambda: (_ for _ in ()).throw(Reset(reset))
        stream.open.set()
        outcome(made.sendall, b"x")
    stream.answered.set()
    job.join()
    assert (made.error is None) == (code is None)
    if code is not None:
        assert made.error.code == code
    assert made.over == (code is not None)


def test_a_stream_that_another_took_over_from_ends_nothing():
    before, after, made = Slow(), Slow(), session()
    jobs = [gevent.spawn(made.carry, before, LinkStats)]
    until(lambda: made.carried)
    jobs.append(gevent.spawn(made.carry, after, LinkStats, resumed=True))
    until(lambda: before.done)
    before.answer = Reset(reset_code(CODE))
    before.answered.set()
    jobs[0].join()
    assert not made.over
    after.lose()
    jobs[1].join()


def test_bytes_that_are_no_frames_abort_the_session_at_both_ends():
    stream = Slow()
    stream.open.set()
    pieces = [b"\xff" * 40]
    waits, stream.recv = stream.recv, lambda limit=0: pieces.pop() if pieces else waits()
    made = session()
    job = gevent.spawn(made.carry, stream, LinkStats)
    until(lambda: "finish" in stream.done)
    assert stream.said[-1] == pack(ResetFrame(0))
    stream.answered.set()
    job.join()
    made.aborting.join()
    assert not made.abort_unheard


def test_codes_of_streams_and_of_sessions():
    assert [aborted(reset_code(code)) for code in (0, 1, 18, 2**31 - 1)] == [0, 1, 18, 2**31 - 1]
    assert aborted(reset_code(2**31)) == 0, "what does not fit"
    assert all(aborted(code) is None for code in (0, 1, 0x100, 2**31 - 1))
