"""A session at work: its owner and all who want to know of its end are told, and others get their turns."""

import gc
import time
import weakref
from contextlib import contextmanager

import gevent
import pytest
from gevent.event import Event

from lane.budget import Budget
from lane.errors import Closed, ProtocolError, Reset, Suspended
from lane.proto.frames import Ack, Data, End, Fin, FrameReader, Ping, ResetFrame, pack
from lane.session import receive_window, stream_reader
from lane.session.owner import Owner
from lane.session.protocol import TURN
from lane.session.receive_window import BEHIND
from lane.session.relay import Relay
from lane.session.session import Session
from lane.stream import LinkStats
from lane.testing.harness import until
from lane.users import gate


class Told(Owner):
    """Keeps what it is told."""

    def __init__(self):
        self.calls = []

    def readable(self):
        self.calls.append("readable")

    def broken(self):
        self.calls.append("broken")

    def carrier_changed(self, flows):
        self.calls.append(("carrier", flows()))


class Pipe:
    """A stream that gives what it was given, and then waits until it is reset."""

    def __init__(self, *pieces):
        self.pieces, self.over, self.sent = list(pieces), Event(), []

    def recv(self, limit=0):
        if self.pieces:
            return self.pieces.pop(0)
        self.over.wait()
        raise Closed("reset here")

    def sendall(self, data):
        self.sent.append(bytes(data))

    def finish(self):
        self.over.set()

    def reset(self, code=0):
        self.over.set()

    close = reset


def made(owner=None, **how):
    return Session(1 << 20, 1 << 20, Budget(1 << 30), owner or Owner(), **how)


def carried(session, *pieces, **how):
    stream = Pipe(*pieces)
    return stream, gevent.spawn(session.carry, stream, LinkStats, **how)


def test_each_that_asked_hears_of_the_end_once_and_who_asks_later_at_once():
    session, heard = made(), []
    for name in ("driver", "port"):
        session.when_over(lambda name=name: heard.append(name))
    assert heard == []
    session.reset()
    session.reset()
    assert heard == ["driver", "port"]
    session.when_over(lambda: heard.append("late"))
    assert heard == ["driver", "port", "late"]


def test_the_owner_hears_of_a_carrier_of_data_and_of_the_end():
    owner = Told()
    session = made(owner)
    _, job = carried(session, pack(Data(0, b"data")), flows=lambda: "flows")
    until(lambda: session.ready)
    assert owner.calls == [("carrier", "flows"), "readable"]
    assert bytes(session.recv()) == b"data"
    session.reset()
    assert owner.calls.count("broken") == 1
    job.join()
    with pytest.raises(Closed):
        session.recv()


def test_what_the_owner_takes_at_once_is_not_held():
    class Eager(Owner):
        taken = b""

        def offer(self, data):
            self.taken += bytes(data[:3])
            return len(data[:3])

    owner = Eager()
    session = made(owner)
    _, job = carried(session, pack(Data(0, b"first")) + pack(Data(5, b"second")))
    until(lambda: session.receive_window.received == 11)
    assert owner.taken == b"fir", "nothing is offered before what waits"
    assert session.receive_window.consumed == 3
    assert bytes(session.recv()) == b"stsecond"
    session.reset()
    job.join()


def test_thousands_of_tiny_frames_leave_others_their_turns(monkeypatch):
    session, turns = made(), []
    for place in (stream_reader, gate):
        monkeypatch.setattr(place, "maybe_yield", lambda *_: turns.append(session.receive_window.received))
    _, job = carried(session, b"".join(pack(Data(number, b"x")) for number in range(3200)))
    until(lambda: session.receive_window.received == 3200)
    until(lambda: len(turns) == 3200 / TURN + 1)  # and one for all that was read
    session.reset()
    job.join()


def test_a_session_that_moves_on_in_a_turn_leaves_what_the_old_stream_brought(monkeypatch):
    owner = Told()
    session, jobs = made(owner, resumable=True), []

    def other_stream(*_):
        if not jobs:
            jobs.append(carried(session, resumed=True)[1])
            gevent.sleep(0)

    monkeypatch.setattr(stream_reader, "maybe_yield", other_stream)
    _, job = carried(session, b"".join(pack(Data(number, b"x")) for number in range(3200)))
    job.join()
    assert session.receive_window.received == TURN
    assert owner.calls[-1] == "readable", "what came before is there to be read"
    session.reset()
    jobs[0].join()


def test_what_waits_for_its_turn_is_not_changed_by_others_who_read(monkeypatch):
    """Streams may hand out views of memory that all of them share, until anything else runs."""
    session, text = made(), bytes(range(256)) * 20
    shared = bytearray(b"".join(pack(Data(at, text[at : at + 1])) for at in range(len(text))))

    def another_reads(*_):
        shared[:] = bytes(len(shared))

    monkeypatch.setattr(stream_reader, "maybe_yield", another_reads)
    _, job = carried(session, memoryview(shared))
    got = b""
    while len(got) < len(text):
        got += bytes(session.recv())
    assert got == text
    session.reset()
    job.join()


def test_a_close_that_a_deadline_cuts_is_an_abort():
    """The peer has not consumed all: what it gets must not look like an end."""
    session = made()
    stream, job = carried(session, pack(Fin(0)))
    assert session.recv() == b""
    session.sendall(b"nobody acknowledges it")
    with gevent.Timeout(0.01, False):
        session.close()
    assert session.over
    assert session.abort_unheard
    session.aborting.join()
    job.join()
    assert stream.sent[-1] == pack(ResetFrame(0))


def test_data_and_a_reset_behind_them_come_in_order():
    session = made()
    _, job = carried(session, pack(Data(0, b"last words")) + pack(ResetFrame(7)))
    job.join()
    assert bytes(session.recv()) == b"last words"
    with pytest.raises(Reset) as caught:
        session.recv()
    assert caught.value.code == 7


def acks(stream):
    return [frame.consumed for frame in FrameReader().each(b"".join(stream.sent)) if type(frame) is Ack]


@contextmanager
def end_consumed(session):
    """The stream of a session that has consumed the peer's end."""
    stream, job = carried(session, pack(Fin(0)))
    assert session.recv() == b""
    yield stream
    session.reset()
    job.join()


def test_that_an_end_was_consumed_is_said_with_what_follows():
    woken = []
    session = made(wake=woken.append)
    with end_consumed(session) as stream:
        assert woken[-1] is session, "so that it gets a tick"
        assert stream.sent == []
        session.sendall(b"the answer")
        assert len(stream.sent) == 1
        assert acks(stream) == [1]


def test_that_an_end_was_consumed_is_said_at_a_tick_if_nothing_follows():
    session = made()
    with end_consumed(session) as stream:
        session.tick(time.monotonic())
        until(lambda: acks(stream) == [1])


def test_who_has_ended_as_well_hears_at_once_that_the_end_was_consumed():
    session = made()
    session.finish()
    with end_consumed(session) as stream:
        assert acks(stream) == [1]


def test_two_that_close_at_once_close_it_once():
    session = made()
    stream, job = carried(session, pack(Fin(0)))
    assert session.recv() == b""
    session.sendall(b"data")
    closing = [gevent.spawn(session.close) for _ in range(2)]
    until(lambda: session.send_buffer.final is not None)
    session.peer_completed()
    gevent.joinall(closing, raise_error=True, timeout=10)
    assert session.error is None
    assert b"".join(stream.sent).count(pack(End())) == 1
    stream.reset()
    job.join()


@pytest.mark.parametrize("end", ["reset", "closed"])
def test_a_session_that_has_ended_needs_no_garbage_collector(end):
    """Sessions come and go by the thousand, and a full collection stops a server for tenths of a second."""
    gc.collect()
    gc.disable()
    try:
        relay = Relay()
        session = made(relay)
        relay._session = session  # as one that runs has it
        stream, job = carried(session, pack(Fin(0)))
        assert session.recv() == b""
        if end == "closed":
            session.finish()
            session.peer_completed()
            session.close()
        else:
            session.reset()
            session.aborting.join()
        stream.reset()
        job.join()
        del job, stream
        known = weakref.ref(session)
        del session
        relay = None
        gevent.sleep(0)
        assert known() is None
    finally:
        gc.enable()


def test_a_peer_that_takes_for_complete_what_is_not_costs_the_stream_too():
    session = made(resumable=True)
    stream, job = carried(session)
    until(lambda: session.carried)
    session.peer_completed()
    assert isinstance(session.error, ProtocolError)
    assert stream.over.is_set(), "it was reset"
    job.join()


class Slow(Pipe):
    """A stream that takes one message after `open` was set, or breaks then."""

    def __init__(self, *, breaks=False):
        super().__init__()
        self.open, self.breaks = Event(), breaks

    def sendall(self, data):
        self.open.wait()
        if self.breaks:
            raise Closed("broke")
        super().sendall(data)


def slow(session, **how):
    """A message of `session` on its way to a stream that does not take it yet."""
    stream = Slow(**how)
    jobs = [gevent.spawn(session.carry, stream, LinkStats)]
    until(lambda: session.carried)
    jobs.append(gevent.spawn(session.sendall, b"one"))
    until(lambda: session.send_buffer.sent == 3)
    return stream, jobs


def test_what_is_to_be_said_while_a_message_waits_for_its_stream_is_said_behind_it():
    session = made()
    stream, jobs = slow(session)
    session.ping()
    jobs.append(gevent.spawn(session.sendall, b"two"))
    stream.open.set()
    until(lambda: len(stream.sent) == 3)
    first, question, second = (FrameReader().feed(frame)[0] for frame in stream.sent)
    assert (first, second, type(question)) == (Data(0, b"one"), Data(3, b"two"), Ping)
    session.reset()
    gevent.joinall(jobs)


@pytest.mark.parametrize("resumable", [False, True])
def test_a_message_whose_stream_breaks_is_kept_for_the_next_stream_if_there_may_be_one(resumable):
    session = made(resumable=resumable)
    stream, (_, sending) = slow(session, breaks=True)
    stream.open.set()
    sending.join()
    assert (sending.successful(), session.retained) == ((True, 3) if resumable else (False, 0))
    session.reset()


@pytest.mark.parametrize("credit", [0, 100])
def test_who_waits_to_write_while_the_session_leaves_hears_of_it_and_keeps_its_bytes(credit):
    session = made(resumable=True)
    stream, (carrying, sending) = slow(session)
    waiting = gevent.spawn(session.sendall, b"two")
    until(session._lock.linkcount)
    session.send_buffer.limit = session.send_buffer.sent + credit
    session.suspend()
    stream.open.set()
    with pytest.raises(Suspended) as caught:
        waiting.get(timeout=5)
    assert (bytes(caught.value.rest), session.retained) == (b"two", 3)
    gevent.joinall([carrying, sending])


def test_a_fault_while_data_are_taken_is_no_gap_in_them_on_the_next_stream(caplog):
    class Faulty(Owner):
        def offer(self, data):
            raise MemoryError

    session = made(Faulty(), resumable=True)
    stream, job = carried(session, pack(Data(0, b"lost")))
    assert job.get() is None
    assert isinstance(session.error, Closed)
    assert stream.over.is_set(), "it was reset"
    assert "the reader of a session failed" in caplog.text


def test_a_peer_hears_at_once_that_credit_is_taken_back(monkeypatch):
    """The reader has stopped, so there is nothing new to acknowledge."""
    monkeypatch.setattr(receive_window, "REACTION", -10.0)  # it had its time
    session = Session(1 << 20, 16 << 20, Budget(1 << 30), Owner())
    window, size = session.receive_window, BEHIND // 16
    window._grow_to(8 * BEHIND)
    window.acknowledge(0.0)
    stream, job = carried(session, *(pack(Data(size * number, bytes(size))) for number in range(9)))
    until(lambda: stream.sent)
    assert FrameReader().feed(stream.sent[0]) == [Ack(0, BEHIND)]
    session.reset()
    job.join()
