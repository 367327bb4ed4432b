"""The relay between a socket and a session: what came before an error arrives, and nobody is forgotten."""

import gc
from time import monotonic

import gevent
import pytest
from gevent import socket

from lane.budget import Budget
from lane.errors import Closed, LaneError, ProtocolError, Reset
from lane.proto.frames import Received, pack
from lane.session import relay as relaying
from lane.session.owner import Owner
from lane.session.receive_window import INITIAL_WINDOW
from lane.session.relay import Relay
from lane.session.session import Session
from lane.session.sockets import SocketStream
from lane.stream import Address, LinkStats
from lane.testing import MemoryTransport, client_tls, server_tls
from lane.testing.harness import outcome, until

KB = 1024


@pytest.fixture
def bed():
    """An application's socket, a relay with a session, and the session at the far end."""
    tls, transport = server_tls(), MemoryTransport()
    listener = transport.listen(Address("127.0.0.1", 0), tls)
    near_carrier = transport.dial(listener.address, client_tls(tls))
    far_carrier = listener.accept()
    stream = near_carrier.open()
    stream.sendall(b"!")
    other = far_carrier.accept()
    assert other.recv(1) == b"!"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        app = socket.create_connection(server.getsockname())
        local, _ = server.accept()
    relay = Relay()
    near, far = make(stream, 16 << 20, relay), make(other, 16 << 20)
    yield app, near, far, gevent.spawn(relay.run, SocketStream(local), near), near_carrier
    for session in (near, far):
        session.reset()
    app.close()


def make(stream, buffer_size, owner=None, credit=INITIAL_WINDOW):
    session = Session(credit, buffer_size, Budget(512 << 20), owner or Owner())
    session.carrying = gevent.spawn(session.carry, stream, LinkStats)
    gevent.sleep(0)  # it is attached
    return session


def test_what_came_before_the_peers_reset_reaches_the_application(bed):
    app, _, far, job, _ = bed
    app.sendall(bytes(100 * KB))  # the other direction is busy, and notices first
    far.sendall(bytes(20 * KB))
    far.reset()
    got = b""
    with pytest.raises(ConnectionError):
        while data := app.recv(65536):
            got += data
    assert len(got) == 20 * KB
    assert isinstance(job.get(), LaneError)


def test_what_the_application_said_before_its_reset_reaches_the_peer(bed):
    app, _, far, job, _ = bed
    app.sendall(b"the last words")
    app.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    app.close()
    far.sendall(bytes(100 * KB))  # the relay meets the reset while it writes
    got = b""
    with pytest.raises(LaneError):
        while data := far.recv():
            got += bytes(data)
    assert got == b"the last words"
    assert isinstance(job.get(), LaneError)


def leave(app):
    """End the connection with a reset."""
    app.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    app.close()


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(relaying, "STALLED", 0.01)
    monkeypatch.setattr(relaying, "LOOK", 0.01)


def test_an_application_that_ends_its_side_and_then_breaks_is_noticed(bed):
    """Nobody reads its socket any more, and the peer says nothing that would have to be written."""
    app, _, far, job, _ = bed
    app.sendall(b"the last words")
    app.shutdown(socket.SHUT_WR)
    assert bytes(far.recv()) == b"the last words"
    assert far.recv() == b""
    far.tick(monotonic())  # as the registry does: nothing else brings the ACK of the end
    leave(app)
    assert isinstance(job.get(), Reset)
    until(lambda: isinstance(far.error, Reset))


def test_what_was_ended_before_the_local_side_broke_is_delivered_at_the_peers_pace(bed, hasty):
    app, near, far, job, _ = bed
    data = bytes(range(256)) * KB
    app.sendall(data)
    app.shutdown(socket.SHUT_WR)
    until(lambda: near.send_buffer.final is not None)
    leave(app)
    got = bytearray()
    while len(got) < len(data) // 2:
        got += far.recv(4 * KB)
    until(lambda: near.send_buffer.acked)
    assert not job.ready()
    while more := far.recv(4 * KB):
        got += more
    assert got == data
    far.tick(monotonic())
    assert isinstance(job.get(), Reset)


def test_an_application_that_breaks_while_the_peer_takes_nothing_is_noticed(bed, hasty):
    app, near, far, job, _ = bed
    sender = gevent.spawn(outcome, app.sendall, bytes(64 << 20))
    until(lambda: near.send_buffer.retained and not near.send_buffer.allowance(1))
    sender.kill()
    leave(app)
    assert isinstance(job.get(), Reset)
    until(lambda: isinstance(far.error, Reset))


def test_ends_of_both_sides_are_no_break(bed, hasty):
    app, _, far, job, _ = bed
    far.sendall(b"answer")
    app.shutdown(socket.SHUT_WR)
    assert far.recv() == b""
    far.finish()
    far.close()
    assert job.get() is None
    assert app.recv(100) == b"answer"
    assert app.recv(100) == b""


def test_an_application_that_only_sends_hears_of_a_lost_carrier(bed):
    app, near, far, job, carrier = bed
    far.finish()
    assert app.recv(1) == b""  # the other direction has ended: nobody reads the session any more
    until(lambda: near.receive_window.ended)
    carrier.drop()
    assert isinstance(job.get(), LaneError)
    with pytest.raises(ConnectionError):
        while app.send(b"x"):
            gevent.sleep(0.001)


def test_a_sender_with_a_small_buffer_is_acknowledged_without_delay():
    tls, transport = server_tls(), MemoryTransport()
    listener = transport.listen(Address("127.0.0.1", 0), tls)
    opened = transport.dial(listener.address, client_tls(tls)).open()
    opened.sendall(b"!")
    accepted = listener.accept().accept()
    accepted.recv(1)
    small, large = make(opened, 8 * KB), make(accepted, 16 << 20, credit=8 * KB)
    job = gevent.spawn(small.sendall, bytes(256 * KB))  # no clock runs here: only the peer's ACK helps
    size = 0
    while size < 256 * KB:
        size += len(large.recv())
    job.get()
    small.reset()
    large.reset()


def test_a_session_that_is_finished_one_way_falls_silent(bed):
    app, near, far, _, _ = bed
    far.finish()
    assert app.recv(1) == b""
    until(lambda: near.receive_window.ended)
    list(near.protocol.receive_data(b"", near.last_data + 60))  # frames that move nothing are no activity
    assert not near.tick(near.last_data + 60)


def test_an_idle_session_has_two_greenlets(bed):
    """The relay's own, which waits for the application, and the session's, which waits for the stream."""
    app, near, far, job, _ = bed
    app.sendall(b"question")
    assert bytes(far.recv()) == b"question"
    far.sendall(b"answer")
    assert app.recv(100) == b"answer"

    def alive():
        found = (one for one in gc.get_objects() if isinstance(one, gevent.Greenlet))
        return {one for one in found if one.started and not one.dead}

    mine = {job, near.carrying, far.carrying}
    before = alive() - mine  # of other tests, and of the transport
    app.sendall(b"more")
    assert bytes(far.recv()) == b"more"
    far.sendall(b"and more")
    assert app.recv(100) == b"and more"
    until(lambda: alive() - before == mine)


def test_what_the_local_socket_has_no_room_for_waits_and_arrives(bed):
    app, near, far, _, _ = bed
    data = bytes(range(256)) * 64 * KB
    job = gevent.spawn(far.sendall, data)
    until(lambda: near.receive_window.held > 100 * KB)  # the application does not read yet
    got = bytearray()
    while len(got) < len(data):
        got += app.recv(1 << 16)
    assert got == data
    job.get()


def test_an_error_that_is_met_while_offering_is_an_error_for_the_reader_too():
    """The kernel tells it once; what then looks like an end of data must not pass for one."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        app = socket.create_connection(server.getsockname())
        sock, _ = server.accept()
    local = SocketStream(sock)
    app.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    app.close()  # a reset
    until(lambda: local.offer(b"x") == 0)
    with pytest.raises(LaneError):
        local.recv()
    local.reset()


def test_a_session_that_was_lost_behind_its_end_is_no_relay_for_ever(bed):
    app, _, far, job, carrier = bed
    far.sendall(b"all of it")
    far.finish()
    assert app.recv(100) == b"all of it"
    assert app.recv(100) == b""
    carrier.close()
    assert isinstance(job.get(), LaneError)


def test_received_where_it_was_not_due_ends_the_session(bed):
    _, near, far, _, _ = bed
    far._stream.sendall(pack(Received(0)))
    until(lambda: near.error)
    assert isinstance(near.error, ProtocolError)
    until(lambda: isinstance(far.error, Reset))


def test_a_fault_in_the_delivery_is_no_gap_in_the_data(bed, monkeypatch, caplog):
    app, _, far, job, _ = bed
    monkeypatch.setattr(SocketStream, "offer", lambda self, data: 0)
    faults = [MemoryError()]

    def sendall(self, data):
        if faults:
            raise faults.pop()
        self._sock.send(data)

    monkeypatch.setattr(SocketStream, "sendall", sendall)
    far.sendall(b"lost")
    with pytest.raises(ConnectionResetError):
        app.recv(100)
    assert isinstance(job.get(), Closed)
    assert "the delivery of a session's data failed" in caplog.text
