"""What the tests of the inbound share: connections to nowhere and to somewhere, and helpers."""

import struct
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import gevent
from gevent import socket
from gevent.pool import Pool

from lane.address import Address
from lane.inbound import Inbound, Terms, UdpTerms
from lane.inbound.handshake import serve
from lane.net.sockets import end_on_close
from lane.session.sockets import SocketStream

BOUND = Address("192.0.2.7", 4660)
TARGET = Address("example.com", 443)
LOGIN = (b"user", b"secret")
GREETING = b"\x05\x01\x00"
CONNECT = b"\x05\x01\x00" + TARGET.pack()
SUCCESS = b"\x05\x00\x00\x01\xc0\x00\x02\x07\x12\x34"
SOCKS4A = b"\x04\x01\x01\xbb\x00\x00\x00\x01me\x00example.com\x00"
SOCKS4_SUCCESS = b"\x00\x5a\x12\x34\xc0\x00\x02\x07"
HEAD = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"
HTTP_SUCCESS = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Echo:
    """A Connection to nowhere: the application hears itself."""

    bound = BOUND

    def __init__(self):
        self.aborted = False
        self.ran = False

    def run(self, sock, early):
        self.ran = True
        with sock:
            sock.sendall(early)
            while data := sock.recv(65536):
                sock.sendall(data)
            end_on_close(sock)

    def abort(self):
        self.aborted = True


class Direct:
    """A TargetConnection that dials the target from here."""

    def __init__(self, target):
        self.remote = socket.create_connection(target)
        self._stream = None  # which takes `remote` over
        self.bound = Address(*self.remote.getsockname()[:2])

    def begin(self):
        self._stream = SocketStream(self.remote)
        return self._stream

    def run(self, sock, early):
        far, near = self._stream or self.begin(), SocketStream(sock)
        try:
            far.sendall(early)
            back = gevent.spawn(self._pump, far, near)
            self._pump(near, far)
            back.get()
        finally:
            near.close()
            far.close()

    @staticmethod
    def _pump(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.finish()

    def abort(self):
        if self._stream is not None:
            self._stream.reset()
        self.remote.close()


def echo(target):
    return Echo()


NOWHERE = SimpleNamespace(connect=echo)
TERMS = Terms(None, 10)


def proxy(address, connector=NOWHERE, terms=TERMS, max_sessions=10):
    """The inbound for SOCKS5 and HTTP, not started."""
    return Inbound(address, partial(serve, connector=connector, terms=terms), Pool(max_sessions))


UDP = UdpTerms()


@contextmanager
def running(
    connect=echo,
    host="127.0.0.1",
    port=0,
    credentials=None,
    max_sessions=100,
    handshake_timeout=30.0,
    udp=UDP,
    pac=False,
    **more,
):
    terms = Terms(credentials, handshake_timeout, udp, pac)
    inbound = proxy(Address(host, port), SimpleNamespace(connect=connect, **more), terms, max_sessions)
    inbound.start()
    try:
        yield inbound
    finally:
        inbound.close()
        inbound.kill()


def dial(inbound):
    return socket.create_connection(inbound.address)


def is_reset(address):
    """Whether a connection to `address` is reset unasked, be it before `connect` has returned."""
    try:
        with socket.create_connection(address, 30) as sock:
            sock.recv(1)
    except ConnectionResetError:
        return True
    return False


def receive(sock, size):
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def to_end(sock):
    """All until the end; raises where it is a reset."""
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def to_reset(sock):
    """All until the reset; raises where it is an end."""
    data = b""
    try:
        while more := sock.recv(65536):
            data += more
    except ConnectionResetError:
        return data
    raise AssertionError("an end in good order")


def raising(error):
    def connect(target):
        raise error

    return connect


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
