"""Records over a real socket, with a peer that has the standard library's TLS."""

import gevent
import pytest
from gevent import socket
from lane_tls import records
from lane_tls.plugin import TLSTransport
from lane_tls.protection import ALERT, HANDSHAKE
from lane_tls.records import Records

from lane.errors import Closed
from lane.proto.frames import data_head
from lane.session.frame_writer import PIECE
from lane.testing.harness import outcome, until
from tests.support.tls_peer import CLIENT


def records_of(foreign, sizes):
    """Records of 16 KB and so many bytes that the peer sends at once: what they hold."""
    for number, size in enumerate(sizes):
        foreign.send(bytes([97 + number]) * size, flush=False)
    foreign.flush()
    return b"".join(bytes([97 + number]) * size for number, size in enumerate(sizes))


def overwrite():
    """Do to the buffers what other connections do."""
    for shared in (records._sealed, records._plain, *records._buffers):
        shared[:] = bytes(len(shared))


def test_all_records_come_at_once_and_the_limit_holds(pair):
    foreign, stream = pair
    sent = records_of(foreign, [16384, 1000])
    got = stream.recv(100) + stream.recv(20000)
    while len(got) < 17384:
        got += stream.recv()
    assert got == sent
    assert not stream._records.read(100)
    assert not stream._records.ended


@pytest.mark.parametrize("limit", [1, 100, 16384, 40000, records.LARGEST])
def test_what_is_too_much_is_kept(pair, limit):
    """Other connections use the same buffer meanwhile."""
    foreign, stream = pair
    size = 3000 if limit == 1 else 300_000
    sent = records_of(foreign, [size])
    got = b""
    while len(got) < size:
        piece = stream.recv(limit)
        assert 0 < len(piece) <= limit
        got += piece
        overwrite()
        if stream.lost():
            break
    assert got == sent
    assert not stream._records.holds


def test_looking_takes_nothing(pair):
    foreign, stream = pair
    sent = records_of(foreign, [16384, 16384, 5])
    until(stream._records.unread)
    for _ in range(3):
        assert stream._records.unread()
        overwrite()
    got = b""
    while len(got) < len(sent):
        got += stream.recv()
    assert got == sent
    assert not stream._records.unread()


def test_what_ended_the_reading_comes_with_the_data(pair):
    foreign, stream = pair
    foreign.send(b"cut here", flush=False)
    foreign.flush()
    foreign.sock.shutdown(socket.SHUT_WR)  # and no close_notify
    data = b""
    with pytest.raises(Closed, match="cut short"):
        while True:
            data += stream._records.read(100)
    assert data == b"cut here"
    assert not stream._records.ended


def test_the_kernel_wakes_nobody_for_a_part_of_a_record(pair, monkeypatch):
    foreign, stream = pair
    fills = []
    read = Records.read
    monkeypatch.setattr(Records, "read", lambda *given: fills.append(given) or read(*given))
    foreign.send(bytes(16384), flush=False)
    wire = foreign._out.read()
    reading = gevent.spawn(stream.recv)

    def low():
        return stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    foreign.sock.sendall(wire[:5000])
    until(lambda: low() == len(wire) - 5000)
    before = len(fills)
    for at in range(5000, len(wire) - 1, 1000):
        foreign.sock.sendall(wire[at : min(at + 1000, len(wire) - 1)])
        gevent.idle()
    assert len(fills) == before
    foreign.sock.sendall(wire[-1:])
    assert reading.get() == bytes(16384)
    reading = gevent.spawn(stream.recv)
    until(lambda: low() == 1)
    reading.kill()


def test_who_hangs_up_in_the_middle_of_a_record_is_noticed(pair):
    foreign, stream = pair
    foreign.send(bytes(16384), flush=False)
    foreign.sock.sendall(foreign._out.read()[:5000])
    reading = gevent.spawn(outcome, stream.recv)
    until(lambda: stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > 1)
    foreign.sock.close()
    assert isinstance(reading.get(), Closed)


def test_one_call_writes_many_records(pair):
    foreign, stream = pair
    assert stream._records.write(b"", memoryview(bytes(100_000))) == 100_000
    while not stream._records.flush():
        pass
    got = b""
    while len(got) < 100_000:
        got += foreign.recv()
    assert got == bytes(100_000)


def test_a_frame_of_bulk_leaves_in_one_write_of_two_segments(pair, monkeypatch):
    """Those of loopback: an MTU of 65536, less 20 bytes for IP and 32 for TCP with time stamps."""
    foreign, stream = pair
    sock, offered = stream._records._sock, []
    stream.sendall(b"the session tickets leave with this")
    assert foreign.recv()

    class Watched:
        def send(self, data):
            offered.append(len(data))
            return sock.send(data)

    monkeypatch.setattr(stream._records, "_sock", Watched())
    head, data = data_head(0, PIECE), bytes(PIECE)
    sending = gevent.spawn(stream.send_joined, head, data)
    got = b""
    while len(got) < len(head) + PIECE:
        got += foreign.recv()
    sending.get()
    assert got == head + data
    assert PIECE < offered[0] <= 2 * (65536 - 52)
    assert offered[0] == PIECE + len(head) + 8 * 22  # so many records: nothing was left for another write


def test_what_the_kernel_does_not_take_stays(pair):
    foreign, stream = pair
    sent = 0
    while stream._records.flush():
        sent += stream._records.write(b"", memoryview(bytes([sent % 251]) * 100_000))
    got = b""
    while len(got) < sent:
        overwrite()
        got += foreign.recv()
        stream._records.flush()
    assert got == b"".join(bytes([at % 251]) * 100_000 for at in range(0, sent, 100_000))
    assert stream._records.flush()


def test_few_buffers_are_kept_and_little_data_keep_none(pair, monkeypatch):
    _, stream = pair
    monkeypatch.setattr(records, "_buffers", [])
    sock, accepts = stream._records._sock, [0]

    class Full:
        def send(self, data):
            if not accepts[0]:
                raise BlockingIOError
            return min(accepts[0], len(data))

    monkeypatch.setattr(stream._records, "_sock", Full())
    stream._records.write(b"head", memoryview(b"little"))
    assert (type(stream._records._unsent), len(records._buffers)) == (bytes, 1)
    accepts[0] = 1 << 20
    assert stream._records.flush()
    for _ in range(records._KEPT + 2):
        accepts[0] = 0
        stream._records.write(b"head", memoryview(bytes(100_000)))
        records._buffers += [memoryview(bytearray(records._ROOM))] * (records._KEPT - len(records._buffers))
        accepts[0] = 50_000
        while not stream._records.flush():
            pass
        assert len(records._buffers) == records._KEPT
    monkeypatch.setattr(stream._records, "_sock", sock)


def test_openssl_is_gone_once_the_tickets_are_there(listener):
    near = TLSTransport().dial(listener.address, CLIENT)
    far = listener.accept()
    stream, other = near.open(), far.accept()
    assert stream.connection is not None
    assert other.connection is None
    other.sendall(b"data")
    assert stream.recv() == b"data"
    assert stream.connection is None
    near.close()
    far.close()


def say(stream, kind, content):
    """Have `stream` say what a TLS library would not let it say."""
    stream._records._say(kind, content)
    assert stream._records.flush()


@pytest.fixture
def lanes(listener):
    """Both ends of a connection of lane's."""
    near = TLSTransport().dial(listener.address, CLIENT)
    far = listener.accept()
    yield near.open(), far.accept()
    near.close()
    far.close()


@pytest.mark.parametrize("asks", [b"\0", b"\1"])
def test_both_sides_may_change_their_keys(lanes, asks):
    near, far = lanes
    for number in range(100):
        one, other = (near, far) if number % 3 else (far, near)
        secrets = one._records._mine, other._records._mine
        one._records._update(asks)
        one.sendall(b"under new keys")
        assert other.recv() == b"under new keys"
        other.sendall(b"back")
        assert one.recv() == b"back"
        changed = one._records._mine != secrets[0], other._records._mine != secrets[1]
        assert changed == (True, asks == b"\1")


def test_keys_change_before_they_are_worn_out(lanes, monkeypatch):
    near, far = lanes
    monkeypatch.setattr(records, "_WEAR", 3)
    seen = set()
    for _ in range(20):
        near.sendall(b"x")
        assert far.recv() == b"x"
        seen.add(near._records._mine)
    assert len(seen) == 5


def test_openssl_follows_new_keys(pair):
    foreign, stream = pair
    stream._records._update(b"\1")
    for _ in range(3):
        stream.sendall(b"data")
        assert foreign.recv() == b"data"
        foreign.send(b"answer")
        assert stream.recv() == b"answer"


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        (ALERT, b"\2\x32", "alert 50"),
        (ALERT, b"\2", "unexpected message"),
        (HANDSHAKE, b"", "unexpected message"),
        (HANDSHAKE, b"\x18\0\0\1\2", "unexpected message"),
        (HANDSHAKE, b"\x18\0\0\1\0\x18\0\0\1\0", "unexpected message"),
        (HANDSHAKE, b"\4\0\0\0", "unexpected message"),  # a ticket from a client
        (99, b"?", "unexpected message"),
    ],
)
def test_what_has_no_place_ends_the_connection(lanes, kind, content, reason):
    near, far = lanes
    near._records._say(kind, content)
    near.sendall(b"data behind it")
    with pytest.raises(Closed, match=reason):
        far.recv()
    if reason == "unexpected message":
        with pytest.raises(Closed, match="alert 10"):
            near.recv()


def test_what_is_no_data_is_bounded(lanes):
    near, far = lanes
    for _ in range(32):
        say(near, ALERT, b"\1\x5a")  # user_canceled means nothing
    near.sendall(b"fine")
    assert far.recv() == b"fine"
    for _ in range(33):
        say(near, ALERT, b"\1\x5a")
    with pytest.raises(Closed, match="unexpected message"):
        far.recv()


def test_a_damaged_ticket_is_no_session_and_no_harm(lanes):
    near, far = lanes
    say(far, HANDSHAKE, b"\4\0\0\5junk!")
    far.sendall(b"data")
    assert near.recv() == b"data"
