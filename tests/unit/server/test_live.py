from lane.address import Address
from lane.budget import Budget
from lane.errors import Closed
from lane.proto.hello import Command, Request
from lane.server.live import LiveSession, LiveSessions
from lane.session.owner import Owner
from lane.session.session import Session

TARGET = Address("example.com", 443)


def a_session(command=Command.CONNECT):
    session = Session(1 << 16, 1 << 16, Budget(1 << 20), Owner())
    return session, LiveSession(session, "alice", "192.0.2.7", "tls", Request(command, TARGET, 0))


def test_it_counts_streams_and_datagrams_by_direction():
    session, live = a_session()
    session.sendall(b"x" * 100)
    session.receive_window.receive(0, b"y" * 10, 0.0, 0.1)
    session.note_datagram(1000, received=False)
    session.note_datagram(2000, received=True)
    assert (live.up, live.down) == (2010, 1100)


def test_packets_have_targets_of_their_own():
    assert a_session(Command.UDP)[1].target is None
    assert [a_session(command)[1].kind for command in (1, 5, 6, 7)] == ["tcp", "udp", "bind", "reverse"]


def test_the_end_is_told_once_with_the_last_transport():
    ends = []
    sessions = LiveSessions(lambda live, error: ends.append((live.transport, str(error))))
    session, live = a_session()
    sessions.begin(live)
    sessions.carried(session, "quic")
    sessions.carried(session, "")  # a carrier that has ended already
    sessions.carried(a_session()[0], "quic")  # one that is not here
    assert [one.user for one in sessions] == ["alice"]
    sessions.end(session, Closed("it was lost"))
    sessions.end(session, None)
    assert ends == [("quic", "it was lost")]
    assert len(sessions) == 0
