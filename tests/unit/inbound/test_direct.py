"""Direct connections, between real sockets: ends, resets and what comes before them, limits, and fairness."""

import fcntl
import sys
import termios

import gevent
import pytest
from gevent import socket

from lane.address import Address
from lane.egress.policy import ANYWHERE
from lane.errors import Closed, Status, TargetError
from lane.inbound import direct as direct_module
from lane.inbound.direct import Direct
from lane.net.resolver import Resolver
from lane.testing.harness import outcome, pattern, settled, until
from tests.support.inbound import reset, to_end

MB = 1_000_000


class Bed:
    """An application and a target with a direct connection between them."""

    def __init__(self, early=b"", idle_timeout=3600.0, buffers=None):
        self.direct = Direct(ANYWHERE, Resolver(), idle_timeout)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            self.app = socket.create_connection(listener.getsockname())
            inner, _ = listener.accept()
            self.connection = self.direct.connect(Address("localhost", listener.getsockname()[1]))
            self.target, _ = listener.accept()
        for sock in (self.app, inner) if buffers else ():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        self.job = gevent.spawn(self.connection.run, inner, early)


def unsent(sock):
    """Bytes that the peer's kernel has not acknowledged (SIOCOUTQ of tcp(7))."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


@pytest.fixture
def make():
    beds = []

    def make(**how):
        beds.append(Bed(**how))
        return beds[-1]

    yield make
    for bed in beds:
        bed.direct.drain(0)
        bed.app.close()
        bed.target.close()
        bed.job.join()


@pytest.fixture
def bed(make):
    return make()


def test_what_the_target_sees(bed):
    assert bed.connection.bound == Address(*bed.target.getpeername())


def test_both_directions_at_once_and_half_closed(make):
    bed = make(early=b"early, ")
    up, down = pattern(30 * MB, 1), pattern(30 * MB, 2)
    jobs = [gevent.spawn(to_end, sock) for sock in (bed.target, bed.app)]
    sending = gevent.spawn(bed.target.sendall, down)
    bed.app.sendall(up)
    bed.app.shutdown(socket.SHUT_WR)
    assert jobs[0].get() == b"early, " + up
    sending.get()
    bed.target.sendall(b"after its peer's end")
    bed.target.shutdown(socket.SHUT_WR)
    assert jobs[1].get() == down + b"after its peer's end"
    bed.job.get()


def test_the_target_may_end_first(bed):
    bed.target.shutdown(socket.SHUT_WR)
    assert bed.app.recv(1) == b""
    bed.app.sendall(b"still here")
    bed.app.shutdown(socket.SHUT_WR)
    assert to_end(bed.target) == b"still here"
    bed.job.get()


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("who", ["app", "target"])
def test_a_reset_is_passed_as_a_reset(bed, who, ended):
    other = bed.target if who == "app" else bed.app
    mine = bed.app if who == "app" else bed.target
    if ended:  # the other one's direction: nobody reads from there any more
        other.shutdown(socket.SHUT_WR)
        assert mine.recv(1) == b""
    mine.sendall(b"last words")
    assert other.recv(10) == b"last words"
    reset(mine)
    with pytest.raises(ConnectionResetError):
        to_end(other)
    bed.job.get()


def test_what_came_before_a_reset_arrives(make):
    """The relay meets it as it writes; what the target had said before is passed on nevertheless."""
    bed = make(buffers=8192)
    answer = pattern(100_000)
    bed.target.sendall(answer)
    until(lambda: unsent(bed.target) == 0)  # and far more than the application's side has room for
    reset(bed.target)
    bed.app.sendall(b"x")
    until(lambda: bed.connection._failure)
    got = b""
    with pytest.raises(ConnectionError):
        while data := bed.app.recv(65536):
            got += data
    assert answer.startswith(got)
    assert len(got) > len(answer) // 2  # a reset of our own overtakes what the kernel has not sent yet


def test_an_application_that_only_sends_hears_of_a_reset(bed):
    bed.target.shutdown(socket.SHUT_WR)
    assert bed.app.recv(1) == b""  # nobody reads from the target any more
    reset(bed.target)
    bed.app.sendall(b"x")
    until(lambda: bed.app.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


@pytest.mark.parametrize("who", ["app", "target"])
def test_a_side_that_ends_and_then_breaks_is_noticed_though_nobody_reads_it(bed, who):
    other = bed.target if who == "app" else bed.app
    mine = bed.app if who == "app" else bed.target
    mine.sendall(b"last words")
    mine.shutdown(socket.SHUT_WR)
    assert to_end(other) == b"last words"
    reset(mine)
    bed.job.get()
    with pytest.raises(ConnectionError):
        other.sendall(b"x")


def test_what_ended_before_a_reset_arrives_whole(make, monkeypatch):
    monkeypatch.setattr(direct_module, "STALLED", 0.01)
    monkeypatch.setattr(direct_module, "LOOK", 0.01)
    bed = make(buffers=8192)
    answer = pattern(20_000)
    bed.target.sendall(answer)
    bed.target.shutdown(socket.SHUT_WR)
    until(lambda: bed.connection._app and bed.connection._app.finished)
    assert bed.connection._app.unsent  # the kernel holds what it has no room for at the application
    reset(bed.target)
    got = b""
    while len(got) < len(answer):
        got += bed.app.recv(500)
    assert got == answer
    bed.job.get()


def test_who_breaks_while_the_other_side_takes_nothing_is_noticed(bed, monkeypatch):
    monkeypatch.setattr(direct_module, "STALLED", 0.01)
    monkeypatch.setattr(direct_module, "LOOK", 0.01)
    sender = gevent.spawn(outcome, bed.app.sendall, bytes(64 * MB))
    until(lambda: unsent(bed.app) > 0 and unsent(bed.connection._target._sock) > 0)
    sender.kill()
    reset(bed.app)
    bed.job.get()


def test_who_is_killed_leaves_resets(bed):
    bed.app.sendall(b"x")
    assert bed.target.recv(1) == b"x"
    bed.job.kill()
    for sock in (bed.app, bed.target):
        with pytest.raises(ConnectionResetError):
            to_end(sock)


def test_a_target_that_refuses_is_told_truly(bed):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(TargetError) as caught:
            bed.direct.connect(Address("127.0.0.1", taken.getsockname()[1]))
    assert caught.value.status is Status.REFUSED


def test_a_connection_that_is_not_wanted_any_more(bed):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        bed.direct.connect(Address(*listener.getsockname())).abort()
        sock, _ = listener.accept()
        with sock, pytest.raises(ConnectionResetError):
            to_end(sock)


def test_the_stream_is_the_target(make):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        connection = make().direct.connect(Address(*listener.getsockname()))
        sock, _ = listener.accept()
        with sock:
            stream = connection.begin()
            stream.sendall(b"question")
            stream.finish()
            assert to_end(sock) == b"question"
            sock.sendall(b"answer")
            assert stream.recv() == b"answer"
            connection.abort()


def test_a_sender_waits_for_its_reader(bed):
    """Nothing is gathered here: what is on the way is what the kernel holds, and one piece."""
    sent = 0

    def flood():
        nonlocal sent
        while True:
            sent += bed.app.send(bytes(65536))

    job = gevent.spawn(flood)
    assert settled(lambda: sent) < 64 * MB  # of tcp_wmem and tcp_rmem, four times
    job.kill()
    bed.app.shutdown(socket.SHUT_WR)
    assert len(to_end(bed.target)) == sent


def test_idle_connections_are_reset_and_busy_ones_are_not(clock, make, monkeypatch):
    monkeypatch.setattr(direct_module, "SWEEP", 10.0)
    bed = make(idle_timeout=60.0)
    for _ in range(4):  # three times as long, with something in each direction
        bed.app.sendall(b"x")
        assert bed.target.recv(1) == b"x"
        gevent.sleep(45)
    for sock in (bed.app, bed.target):
        with pytest.raises(ConnectionResetError):
            to_end(sock)
    bed.job.get()


def test_a_stream_is_reset_when_it_is_idle_and_awaited_until_it_is_dropped(monkeypatch):
    monkeypatch.setattr(direct_module, "SWEEP", 0.01)
    direct = Direct(ANYWHERE, Resolver(), 0.1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        connection = direct.connect(Address(*listener.getsockname()))
        with pytest.raises(Closed):
            connection.begin().recv()
    job = gevent.spawn(direct.drain, 60)
    gevent.sleep(0)
    assert not job.ready()
    connection.abort()
    job.get()


def test_they_may_finish_when_all_is_ended(bed):
    job = gevent.spawn(bed.direct.drain, 60)
    bed.app.sendall(b"to the end")
    bed.app.shutdown(socket.SHUT_WR)
    assert to_end(bed.target) == b"to the end"
    assert not job.ready()
    bed.target.shutdown(socket.SHUT_WR)
    job.get()
    assert to_end(bed.app) == b""


def test_who_does_not_finish_in_time_is_reset(bed):
    bed.app.sendall(b"x")
    assert bed.target.recv(1) == b"x"
    bed.direct.drain(0.01)
    with pytest.raises(ConnectionResetError):
        to_end(bed.app)
    bed.job.get()
    bed.direct.drain(60)  # there is nobody left


class Ready:
    """A stream that never has to wait, for 1 GB."""

    broken = False
    left = 1000 * MB

    def recv(self, limit):
        size = min(limit, self.left)
        self.left -= size
        return bytes(size)

    def sendall(self, data):
        pass

    def finish(self):
        pass


def test_others_have_their_turns_beside_a_fast_one(bed):
    turns = 0
    job = gevent.spawn(bed.connection._pump, Ready(), Ready(), b"")
    while not job.ready():
        gevent.sleep(0.0001)
        turns += 1
    assert turns > 5
