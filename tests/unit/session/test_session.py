"""A session and its owners: all who want to know of its end are told, once."""

import pytest

from lane.budget import Budget
from lane.errors import ProtocolError
from lane.proto.frames import Ack, Data, FrameReader, Ping, Pong, Stats, pack
from lane.session import session as module
from lane.session.session import EMPTY, EMPTY_SIZE, Session


def test_each_that_asked_hears_of_the_end_once_and_who_asks_later_at_once():
    session, heard = Session(1 << 20, 1 << 20, Budget(1 << 30)), []
    for name in ("passage", "port"):
        session.when_over(lambda name=name: heard.append(name))
    assert heard == []
    session.reset()
    session.reset()
    assert heard == ["passage", "port"]
    session.when_over(lambda: heard.append("late"))
    assert heard == ["passage", "port", "late"]


def made():
    session = Session(1 << 20, 1 << 20, Budget(1 << 30))
    session._take_in(pack(Data(0, b"known")), session._frames)
    session.inbox.take(5)
    return session


@pytest.mark.parametrize(
    "frame",
    [Data(0, b"k"), Data(2, b"own"), Ack(0, 1 << 20), Ping(1), Pong(1), Stats(1, 1, 1, 1)],
    ids=["data", "later data", "ack", "ping", "pong", "stats"],
)
def test_a_peer_that_says_nothing_new_all_the_time_is_stopped(frame):
    session = made()
    session.outbox.limit = 1 << 20
    session._take_in(pack(frame) * int(EMPTY), session._frames)
    with pytest.raises(ProtocolError, match="too many frames that say nothing"):
        session._take_in(pack(frame) * 100, session._frames)


def test_data_excuse_questions():
    """A sender that may retain little asks for an ACK each time that it can send no more."""
    session = made()
    for number in range(10):
        session.inbox.limit = 1 << 30
        for step in range(int(EMPTY) // 5):
            offset = 5 + (number * int(EMPTY) // 5 + step) * EMPTY_SIZE
            session._take_in(pack(Data(offset, bytes(EMPTY_SIZE))) + pack(Ping(1)), session._frames)
        session.inbox.take(1 << 30)
    assert session.error is None


def test_thousands_of_tiny_frames_leave_others_their_turns(monkeypatch):
    session, turns = made(), []
    monkeypatch.setattr(module, "be_fair", lambda: turns.append(session.inbox.received))
    session._take_in(b"".join(pack(Data(5 + number, b"x")) for number in range(3200)), session._frames)
    assert len(turns) == 3200 / module.TURN
    assert session.inbox.received == 3205


def test_a_session_that_moves_on_in_a_turn_leaves_what_the_old_stream_brought(monkeypatch):
    session = made()

    def other_stream():
        session._frames = FrameReader()

    monkeypatch.setattr(module, "be_fair", other_stream)
    session._take_in(b"".join(pack(Data(5 + number, b"x")) for number in range(3200)), session._frames)
    assert session.inbox.received == 5 + module.TURN


def test_what_waits_for_its_turn_is_not_changed_by_others_who_read(monkeypatch):
    """Streams may hand out views of memory that all of them share, until anything else runs."""
    session, text = made(), bytes(range(256)) * 20
    shared = bytearray(b"".join(pack(Data(5 + at, text[at : at + 1])) for at in range(len(text))))

    def another_reads():
        shared[:] = bytes(len(shared))

    monkeypatch.setattr(module, "be_fair", another_reads)
    session._take_in(memoryview(shared), session._frames)
    got = b""
    while len(got) < len(text):
        got += bytes(session.inbox.take(1 << 20))
    assert got == text
