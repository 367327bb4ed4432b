"""What users move: counted while it moves, kept when sessions end, bounded when many users come and go."""

from collections import Counter
from contextlib import contextmanager, suppress

import gevent
import pytest
from gevent import socket

from lane.session.owner import Owner
from lane.testing.harness import until
from lane.users.traffic import LOOK, SHORT_LOOK, Bytes, Limits, Traffic
from tests.support.beds import MB, making_beds, read_to_end


class Moving:
    """A session's counters."""

    over = False

    def __init__(self, up=0, down=0, *, elsewhere=(0, 0)):
        self.moved, self.moved_elsewhere = (up, down), elsewhere


@contextmanager
def counted(traffic, user, session=None):
    session = session or Moving()
    traffic.begin(user, session, Owner())
    yield session
    traffic.end(user, session)


def test_a_session_counts_while_it_lives_and_afterwards():
    traffic = Traffic()
    with counted(traffic, "ann") as session:
        session.moved = 5, 700
        assert (traffic.of("ann").up, traffic.of("ann").down, traffic.of("ann").sessions) == (5, 700, 1)
        session.moved = 5, 800
        assert traffic.of("ann").total == Bytes(5, 800)
    assert (traffic.of("ann").total, traffic.of("ann").sessions) == (Bytes(5, 800), 0)
    with counted(traffic, "ann"), counted(traffic, "bob"):
        assert traffic.online == 2
    assert [user.name for user in traffic] == ["bob", "ann"]
    assert not any(traffic.of("eve").total)
    assert "eve" not in [user.name for user in traffic]


def test_what_a_session_moved_in_another_process_is_not_counted_again():
    traffic = Traffic()
    with counted(traffic, "ann", Moving(100, 1000, elsewhere=(100, 1000))) as session:
        assert not any(traffic.of("ann").total)
        session.moved = 100, 1001
        assert traffic.of("ann").total == Bytes(0, 1)
    assert traffic.of("ann").total == Bytes(0, 1)


def test_each_byte_is_drained_once():
    traffic = Traffic()
    assert traffic.drain() == {}
    with counted(traffic, "ann") as session, counted(traffic, "bob"):
        session.moved = 10, 0
        assert traffic.drain() == {"ann": Bytes(10, 0)}
        assert traffic.drain() == {}
        session.moved = 11, 2
    with counted(traffic, "ann"):
        assert traffic.drain() == {"ann": Bytes(1, 2)}
    assert traffic.drain() == {}
    with counted(traffic, "ann") as last:
        last.moved = 3, 0
    assert traffic.drain() == {"ann": Bytes(3, 0)}
    assert traffic.drain() == {}


def test_users_who_come_and_go_are_forgotten_and_their_bytes_are_not():
    traffic = Traffic(most_idle=3)
    with counted(traffic, "here"):
        for number in range(10):
            with counted(traffic, f"user {number}") as session:
                session.moved = 1, 0
        assert traffic.census() == {"users_online": 1, "users_idle": 3}
        assert [user.name for user in traffic] == ["here", "user 7", "user 8", "user 9"]
    assert traffic.forgotten.plus(Bytes(sum(user.up for user in traffic))) == Bytes(10)
    assert len(traffic.drain()) == 2  # "here" took the place of one more


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


class Limited:
    """What the users of a Traffic may."""

    def __init__(self, traffic, **limits):
        self.of, self.traffic = Limits(**limits), traffic
        traffic.limits = lambda user: self.of

    def change(self, **limits):
        self.of = self.of._replace(**limits)
        self.traffic.changed("user")


def download(size):
    def serve(sock):
        with sock, suppress(OSError):
            sock.recv(1)
            sock.sendall(bytes(size))

    return serve


def counting(sock, got, name):
    with suppress(OSError):
        while data := sock.recv(65536):
            got[name] += len(data)


def test_all_downloads_of_a_user_keep_to_the_rate_in_equal_parts_and_a_change_is_live():
    with making_beds(ways=["cheap"]) as make:
        bed = make(download(3 * MB))
        limits, got = Limited(bed.server.traffic, down=1e6), Counter()
        apps = [bed.application() for _ in range(5)]
        readers = [gevent.spawn(counting, app.sock, got, number) for number, app in enumerate(apps)]
        for app in apps:
            app.sock.sendall(b"1")
        gevent.sleep(2)
        assert sum(got.values()) == pytest.approx(2e6, rel=0.05)
        assert min(got.values()) > 0.8 * max(got.values())
        for rate in (4e6, 2.5e5):
            limits.change(down=rate)
            before = sum(got.values())
            gevent.sleep(2)
            assert sum(got.values()) - before == pytest.approx(2 * rate, rel=0.05)
        limits.change(down=None)
        gevent.joinall(readers, timeout=60)
        assert all(size == 3 * MB for size in got.values())


def test_uploads_keep_to_the_rate_and_lose_nothing():
    arrived = Counter()

    def serve(sock):
        with sock:
            counting(sock, arrived, sock.getpeername()[1])

    with making_beds(ways=["cheap"]) as make:
        bed = make(serve)
        Limited(bed.server.traffic, up=1e6)
        apps = [bed.application() for _ in range(3)]

        def send(sock):
            sock.sendall(bytes(MB))
            sock.shutdown(socket.SHUT_WR)

        jobs = [gevent.spawn(send, app.sock) for app in apps]
        gevent.sleep(2)
        assert sum(arrived.values()) == pytest.approx(2e6, rel=0.05)
        assert min(arrived.values()) > 0.8 * max(arrived.values())
        gevent.joinall([*jobs, *(app.job for app in apps)], timeout=60)
        assert [*arrived.values()] == [MB] * 3
        assert bed.server.traffic.of("user").up == 3 * MB


def test_the_reset_of_a_session_ends_its_wait():
    with making_beds(ways=["cheap"]) as make:
        bed = make(download(MB))
        Limited(bed.server.traffic, down=1000)
        app = bed.application()
        app.sock.sendall(b"1")
        app.sock.recv(1)
        until(lambda: bed.server.traffic.of("user").sessions)
        (session,) = bed.server_registry.sessions
        session.reset()
        gevent.joinall([app.job], timeout=5)
        until(lambda: not bed.server.traffic.of("user").sessions)


def test_looks_at_a_quota_come_closer_to_its_end(monkeypatch):
    traffic, pauses = Traffic(), []
    traffic.limits = lambda user: Limits(left=20 * MB)
    traffic.spent = lambda user: traffic._quotas.clear()

    def move(seconds):
        pauses.append(seconds)
        if traffic._quotas:
            session.moved = 0, session.moved[1] + int(10 * MB * seconds)

    with counted(traffic, "ann") as session, monkeypatch.context() as patched:
        patched.setattr(gevent, "sleep", move)
        traffic._watch()
        assert -10 * MB * SHORT_LOOK <= traffic.of("ann").left <= 0
    assert pauses[0] == LOOK
    assert len(pauses) < 30


def test_the_quota_counts_down_live_and_says_when_it_is_spent():
    spent = []
    with making_beds(ways=["cheap"]) as make:
        bed = make(download(20 * MB))
        traffic = bed.server.traffic
        limits = Limited(traffic, down=1e6, left=2 * MB)
        traffic.spent = spent.append
        app, got = bed.application(), Counter()
        app.sock.sendall(b"1")
        gevent.spawn(counting, app.sock, got, 0)
        gevent.sleep(1)
        user = traffic.of("user")
        assert user.left == 2 * MB - user.up - user.down
        moved = sum(traffic.drain()["user"])
        limits.change(left=2 * MB - moved)
        assert user.left == pytest.approx(2 * MB - moved, abs=1e5)
        assert not spent
        until(lambda: spent)
        assert -0.3e6 < user.left <= 0
        assert user.up + user.down == pytest.approx(2 * MB, rel=0.1)
        limits.change(left=None)
        gevent.sleep(1)
        spent.clear()
        gevent.sleep(1)
        assert (spent, user.left) == ([], None)
