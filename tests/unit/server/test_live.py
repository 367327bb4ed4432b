from lane.address import Address
from lane.budget import Budget
from lane.errors import Closed
from lane.proto.hello import Command, Request
from lane.server.live import LiveSession, LiveSessions
from lane.session.owner import Owner
from lane.session.packets import Packets
from lane.session.session import Session

TARGET = Address("example.com", 443)


def a_session(command=Command.CONNECT):
    owner = Packets(b"", lambda address, payload: None) if command == Command.UDP else Owner()
    session = Session(1 << 16, 1 << 16, Budget(1 << 20), owner)
    return session, LiveSession(
        session, Request(command, TARGET, 0), owner=owner, user="alice", peer="192.0.2.7", transport="tls"
    )


def test_it_counts_streams_and_datagrams_by_direction():
    session, live = a_session()
    session.sendall(b"x" * 100)
    window = session.receive_window
    window.receive(0, b"y" * 10, 0.0, 0.1)
    window.consume_now(10)
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
    sessions.carried(session, "tls")
    sessions.carried(session, "quic")
    sessions.carried(a_session()[0], "quic")  # one that is not here
    assert [one.user for one in sessions] == ["alice"]
    sessions.end(session, Closed("it was lost"))
    sessions.end(session, None)
    assert ends == [("quic", "it was lost")]
    assert len(sessions) == 0


def test_bytes_count_for_the_transport_that_carried_them_while_they_move():
    sessions, (session, live) = LiveSessions(), a_session()
    sessions.begin(live)
    sessions.carried(session, "tls")
    session.sendall(b"x" * 100)
    sessions.settle()
    assert sessions.numbers.bytes == {("tls", "down"): 100}
    session.sendall(b"x" * 10)
    sessions.carried(session, "quic")
    session.sendall(b"x" * 1)
    sessions.end(session, None)
    sessions.settle()
    numbers = sessions.numbers
    assert numbers.bytes[("tls", "down")] == 110
    assert numbers.bytes[("quic", "down")] == 1
    assert numbers.moves == {("tls", "quic"): 1}
    assert (+numbers.begun, +numbers.ended) == ({("tcp",): 1}, {("clean",): 1})


def test_packets_are_counted_by_direction_and_those_that_are_dropped():
    sessions, (session, live) = LiveSessions(), a_session(Command.UDP)
    sessions.begin(live)
    packets = live.packets
    packets.send(TARGET, b"nobody has begun")
    packets.begin(session)
    packets.send(TARGET, b"x")
    sessions.settle()
    assert sessions.numbers.packets == {("up",): 0, ("down",): 1}
    assert sessions.numbers.dropped_packets == {(): 1}
    session.reset()
