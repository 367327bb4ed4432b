"""A TLS peer that is not lane, for tests: the standard library's, with its hands on each byte."""

import ssl
import struct

import pytest
from gevent import socket

from lane.stream import Address
from lane.testing import client_tls, server_tls

LOOPBACK = Address("127.0.0.1", 0)
IDENTITY = server_tls()
CLIENT = client_tls(IDENTITY)


class Foreign:
    """TLS over a plain socket of gevent's. Making one shakes hands."""

    def __init__(self, sock, context, **wrap):
        self.sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, **wrap)
        try:
            self._do(self.tls.do_handshake)
        finally:
            self.flush()  # an alert too

    def _do(self, call, *arguments):
        while True:
            try:
                return call(*arguments)
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                self._in.write(data) if data else self._in.write_eof()

    def flush(self):
        self.sock.sendall(self._out.read())

    def send(self, data, flush=True):
        self.tls.write(data)
        if flush:
            self.flush()

    def recv(self):
        try:
            return self._do(self.tls.read, 65536)
        except ssl.SSLZeroReturnError:
            return b""

    def finish(self):
        """Send close_notify, and not wait for the peer's."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()

    def fin(self):
        """End the TCP connection, and not a word of TLS."""
        self.sock.shutdown(socket.SHUT_WR)

    def abort(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def foreign_context(alpn=()):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def foreign_server_context(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = tmp_path / "server.pem"
    pem.write_bytes(IDENTITY.key_pem + IDENTITY.chain_pem)
    context.load_cert_chain(pem)
    return context


def foreign_client(listener, **options):
    return Foreign(socket.create_connection(listener.address), foreign_context(**options))
