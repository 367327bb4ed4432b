"""Canaries: what `lane_tls.openssl` knows of pyOpenSSL's inside is still so."""

import inspect
from itertools import accumulate, cycle

import gevent
import pytest
from gevent import socket
from hypothesis import example, given
from hypothesis import strategies as st
from lane_tls import openssl
from OpenSSL import SSL

from lane.errors import Closed
from lane.proto.frames import data_head
from lane.session.frame_writer import PIECE
from lane.testing.harness import outcome, until


def records_of(foreign, sizes):
    """Records of 16 KB and so many bytes that the peer sends at once: what they hold."""
    for number, size in enumerate(sizes):
        foreign.send(bytes([97 + number]) * size, flush=False)
    foreign.flush()
    return b"".join(bytes([97 + number]) * size for number, size in enumerate(sizes))


def test_a_connection_reads_as_we_do():
    source = inspect.getsource(SSL.Connection.recv)
    assert "_lib.SSL_read(self._ssl, buf, bufsiz)" in source
    assert "self._raise_ssl_error(self._ssl, result)" in source
    source = inspect.getsource(SSL.Connection.__init__)
    assert "_lib.SSL_set_bio(self._ssl, self._into_ssl, self._from_ssl)" in source


def test_all_records_come_at_once_and_the_limit_holds(pair):
    foreign, stream = pair
    sent = records_of(foreign, [16384, 1000])
    got = stream.recv(100) + stream.recv(20000)
    while len(got) < 17384:
        got += stream.recv()
    assert got == sent
    data, error = stream._records.read(100)
    assert not data
    assert isinstance(error, SSL.WantReadError)


@pytest.mark.parametrize("limit", [1, 100, 16384, 40000, openssl.LARGEST])
def test_what_is_too_much_is_kept(pair, limit):
    """Other connections use the same buffer meanwhile."""
    foreign, stream = pair
    size = 3000 if limit == 1 else 300_000
    sent = records_of(foreign, [size])
    other = openssl.Records(stream.connection.get_context(), stream.sock)
    got = b""
    while len(got) < size:
        piece = stream.recv(limit)
        assert 0 < len(piece) <= limit
        got += piece
        openssl._sealed_view[:] = bytes(openssl.LARGEST)
        other._feed(openssl._sealed, 5)
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
        openssl._sealed_view[:] = bytes(openssl.LARGEST)
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
    with pytest.raises(SSL.Error) as caught:
        while True:
            piece, error = stream._records.read(100)
            data += piece
            if error is not None and not isinstance(error, SSL.WantReadError):
                raise error
    assert data == b"cut here"
    assert not isinstance(caught.value, SSL.ZeroReturnError)


@given(st.lists(st.integers(0, 16640), max_size=6), st.lists(st.integers(1, 20000), min_size=1, max_size=9))
@example([5, 0, 16406], [1, 3, 2, 4, 20000])
def test_what_a_record_lacks_is_known_however_the_bytes_are_split(sizes, splits):
    """It is never more than that: the kernel would not report the record."""
    here, there = socket.socketpair()
    records = openssl.Records(SSL.Context(SSL.TLS_METHOD), here)
    wire = b"".join(b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size) for size in sizes)
    ends = list(accumulate(size + 5 for size in sizes))
    at, turns = 0, cycle(splits)
    with here, there:
        while at < len(wire):
            piece = wire[at : at + next(turns)]
            openssl._sealed_view[: len(piece)] = piece
            openssl._sealed_view[len(piece) : len(piece) + 5] = b"stale"
            records._follow(len(piece))
            at += len(piece)
            end = next(end for end in ends if end >= at)
            known = at >= end - sizes[ends.index(end)]
            assert records.lacks == (end - at if known else 0)


def test_the_kernel_wakes_nobody_for_a_part_of_a_record(pair, monkeypatch):
    foreign, stream = pair
    fills = []
    fill = openssl.Records._fill
    monkeypatch.setattr(openssl.Records, "_fill", lambda *given: fills.append(fill(*given)) or fills[-1])
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
    assert stream._records.write(memoryview(bytes(100_000))) == 100_000
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
        sent += stream._records.write(memoryview(bytes(100_000)))
    assert stream._records not in openssl._keeping
    got = 0
    while got < sent:
        got += len(foreign.recv())
        stream._records.flush()
    assert stream._records.flush()


def test_few_connections_keep_the_memory_of_a_long_write(pair, monkeypatch):
    foreign, stream = pair
    monkeypatch.setattr(openssl, "KEEPING", 1)
    openssl._keeping.clear()
    shrunk = []

    class Other:
        def _shrink(self):
            shrunk.append(self)

    last = Other()
    openssl._keeping[last] = None
    stream.sendall(bytes(100_000))
    assert foreign.recv()
    assert shrunk == [last]
    assert list(openssl._keeping) == [stream._records]
    stream._records._shrink()
    stream.sendall(b"and it writes on")
    assert stream._records not in openssl._keeping
    stream.sendall(bytes(100_000))
    stream.reset()
    assert not openssl._keeping
