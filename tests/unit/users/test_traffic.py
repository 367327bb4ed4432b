"""What users move: counted while it moves, kept when sessions end, bounded when many users come and go."""

from contextlib import ExitStack

import gevent
import pytest

from lane.testing.harness import until
from lane.users.traffic import Bytes, Traffic
from tests.support.beds import MB, making_beds, read_to_end


class Moving:
    """A session's counters."""

    def __init__(self, moved_in=0, moved_out=0):
        self.moved_in, self.moved_out = moved_in, moved_out


def test_a_session_counts_while_it_lives_and_afterwards():
    traffic, session = Traffic(), Moving()
    with traffic.session("ann", session):
        session.moved_in, session.moved_out = 5, 700
        assert (traffic.of("ann").up, traffic.of("ann").down, traffic.of("ann").sessions) == (5, 700, 1)
        session.moved_out = 800
        assert traffic.of("ann").total == Bytes(5, 800)
    assert (traffic.of("ann").total, traffic.of("ann").sessions) == (Bytes(5, 800), 0)
    with traffic.session("ann", Moving(moved_in=1)) as _, traffic.session("bob", Moving()):
        assert traffic.online == 2
    assert [user.name for user in traffic] == ["bob", "ann"]
    assert not any(traffic.of("eve").total)
    assert "eve" not in [user.name for user in traffic]


def test_what_a_session_moved_in_another_process_is_not_counted_again():
    traffic, session = Traffic(), Moving(100, 1000)
    with traffic.session("ann", session):
        assert not any(traffic.of("ann").total)
        session.moved_out = 1001
    assert traffic.of("ann").total == Bytes(0, 1)


def test_each_byte_is_drained_once():
    traffic, session = Traffic(), Moving()
    assert traffic.drain() == {}
    with traffic.session("ann", session), traffic.session("bob", Moving()):
        session.moved_in = 10
        assert traffic.drain() == {"ann": Bytes(10, 0)}
        assert traffic.drain() == {}
        session.moved_in, session.moved_out = 11, 2
    with traffic.session("ann", Moving()) as _:
        assert traffic.drain() == {"ann": Bytes(1, 2)}
    assert traffic.drain() == {}
    with traffic.session("ann", last := Moving()):
        last.moved_in = 3
    assert traffic.drain() == {"ann": Bytes(3, 0)}
    assert traffic.drain() == {}


def test_users_who_come_and_go_are_forgotten_and_their_bytes_are_not():
    traffic = Traffic(most_idle=3)
    with traffic.session("here", Moving()):
        for number in range(10):
            with traffic.session(f"user {number}", session := Moving()):
                session.moved_in = 1
        assert traffic.census() == {"users_online": 1, "users_idle": 3}
        assert [user.name for user in traffic] == ["here", "user 7", "user 8", "user 9"]
    assert traffic.forgotten.plus(Bytes(sum(user.up for user in traffic))) == Bytes(10)
    assert len(traffic.drain()) == 2  # "here" took the place of one more


def test_a_session_that_fails_at_its_start_leaves_nothing():
    traffic = Traffic()
    with pytest.raises(ZeroDivisionError), ExitStack() as resources:
        resources.enter_context(traffic.session("ann", Moving()))
        raise ZeroDivisionError
    assert traffic.online == 0


def test_a_server_counts_a_long_download_while_it_runs():
    def serve(sock):
        with sock:
            sock.recv(1)
            sock.sendall(bytes(MB))
            sock.recv(1)
            sock.sendall(bytes(MB))

    with making_beds(ways=["cheap"]) as make:
        bed = make(serve)
        app = bed.application()
        app.sock.sendall(b"1")
        got = 0
        while got < MB:
            got += len(app.sock.recv(65536))
        user = bed.server.traffic.of("user")
        assert user.total == Bytes(1, MB)
        app.sock.sendall(b"2")
        read_to_end(app.sock)
        app.sock.close()
        gevent.joinall([app.job])
        until(lambda: not user.sessions)
        assert bed.server.traffic.of("user").total == Bytes(2, 2 * MB)
