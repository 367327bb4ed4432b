"""Canaries: what `lane_tls.openssl` knows of pyOpenSSL's inside is still so."""

import inspect

import pytest
from gevent import socket
from lane_tls import openssl
from OpenSSL import SSL
from test_tls_carrier import listener, pair  # noqa: F401  (fixtures)


def test_a_connection_reads_as_we_do():
    source = inspect.getsource(SSL.Connection.recv)
    assert "_lib.SSL_read(self._ssl, buf, bufsiz)" in source
    assert "self._raise_ssl_error(self._ssl, result)" in source


def test_all_records_come_at_once_and_the_limit_holds(pair):  # noqa: F811
    foreign, stream = pair
    foreign.send(b"a" * 16384, flush=False)
    foreign.send(b"b" * 1000, flush=False)
    foreign.flush()
    got = stream.recv(100) + stream.recv(20000)
    while len(got) < 17384:
        got += stream.recv()
    assert got == b"a" * 16384 + b"b" * 1000
    data, error = openssl.read_records(stream._connection, 100)
    assert not data
    assert isinstance(error, SSL.WantReadError)


def test_what_ended_the_reading_comes_with_the_data(pair):  # noqa: F811
    foreign, stream = pair
    foreign.send(b"cut here", flush=False)
    foreign.flush()
    foreign.sock.shutdown(socket.SHUT_WR)  # and no close_notify
    data = b""
    with pytest.raises(SSL.Error) as caught:
        while True:
            piece, error = openssl.read_records(stream._connection, 100)
            data += piece
            if error is not None and not isinstance(error, SSL.WantReadError):
                raise error
    assert data == b"cut here"
    assert not isinstance(caught.value, SSL.ZeroReturnError)


def test_one_call_writes_many_records(pair):  # noqa: F811
    foreign, stream = pair
    assert stream._connection.send(bytes(100_000)) == 100_000
    got = b""
    while len(got) < 100_000:
        got += foreign.recv()
    assert got == bytes(100_000)
