"""A transport with frames over TCP, as docs/PLUGINS.md asks for one: a WebSocket without its wrapping.

A client says GREETING, the server shows its certificate. Then there are frames in both directions: a byte
that says what it is, DATA or END, and three with the length. A connection that is only cut has no END.
"""

import errno
import socket
import struct
from contextlib import suppress

import gevent
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from gevent import socket as gsocket
from gevent.event import Event
from gevent.pool import Pool
from gevent.queue import Queue, ShutDown

from lane.errors import Closed, ConfigError, Failure, Reset, Unreachable
from lane.stream import Address
from lane.tcp_info import link_stats

GREETING = b"framed/1 please\n"
DATA, END = 0, 1
HEAD = 4
LARGEST = 65536


class FramedStream:
    def __init__(self, sock):
        self.sock, self.gone = sock, Event()
        self.failure, self.finished, self.ended, self.sending = None, False, False, False
        self._came, self._left = bytearray(), 0  # not yet read, and how much of it is the rest of a frame

    def recv(self, limit=262144):
        while True:
            if self.failure:
                raise self.failure.build()
            if piece := self._take(limit):
                return piece
            if self.ended:
                return b""
            self._fill(self.sock)

    def sendall(self, data):
        view = memoryview(data).cast("B")
        if self.finished or self.sending or self.failure:
            raise self.failure.build() if self.failure else Closed("nothing more can be sent")
        self.sending = True
        for at in range(0, len(view), LARGEST):
            self._send(DATA, view[at : at + LARGEST])
        self.sending = False

    def finish(self):
        if self.finished:
            return
        if self.failure:
            raise self.failure.build()
        self.finished = True
        self._send(END, b"")

    def reset(self, code=0):
        self.end(Closed("reset on this side"))
        if not self.sock.closed:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    def close(self):
        if self.failure:
            self.sock.close()
        elif self.sending or self.unread():
            self.reset()
        else:
            self.end(Closed("closed on this side"))
            rest = self.sock.dup()
            self.sock.close()  # it wakes who waits for it, and the connection goes on with `rest`
            gevent.spawn(self._linger, rest)

    def _linger(self, sock):
        """An END that comes is data to the kernel: were the socket closed, it would reset the connection."""
        with gevent.Timeout(10, False), suppress(Closed, OSError), sock:
            if not self.finished:
                sock.sendall(_head(END, 0))
            sock.shutdown(socket.SHUT_WR)
            while not self.ended:
                self._fill(sock)
                if self._take(1):  # nobody will read it
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return

    def unread(self):
        """Whether data came that nobody has read; looks now. What else came is taken in."""
        self.sock.settimeout(0)
        try:
            while not (self._came and self._left) and not self.ended:
                if not self._take(0):
                    self._fill(self.sock)
        except (BlockingIOError, Closed):
            pass
        finally:
            self.sock.settimeout(None)
        return bool(self._came)

    def end(self, error):
        self.failure = self.failure or Failure.of(error)
        self.gone.set()
        return self.failure.build()

    def _send(self, kind, data):
        try:
            self.sock.sendall(_head(kind, len(data)) + data)
        except OSError as error:
            raise self._failed(error) from None

    def _fill(self, sock):
        try:
            data = sock.recv(LARGEST)
        except BlockingIOError:
            raise
        except OSError as error:
            raise self._failed(error) from None
        if not data:
            raise self.end(Closed("the connection was cut short"))
        self._came += data

    def _take(self, limit):
        """Up to `limit` bytes of data that came. Goes on to the next frame, or to the end."""
        while not self._left and len(self._came) >= HEAD and not self.ended:
            self.ended = self._came[0] == END
            self._left = int.from_bytes(self._came[1:HEAD], "big")
            del self._came[:HEAD]
        piece = bytes(self._came[: min(limit, self._left)])
        del self._came[: len(piece)]
        self._left -= len(piece)
        return piece

    def _failed(self, error):
        reset = error.errno in (errno.ECONNRESET, errno.EPIPE)
        return self.end(Reset() if reset else Closed(str(error)))


class FramedCarrier:
    datagrams = None
    one_stream = True

    def __init__(self, stream, peer, binding, dialled):
        self.peer, self.binding = peer, binding
        self._stream, self._dialled, self._unused = stream, dialled, True

    @property
    def closed(self):
        if self._unused and not self._stream.failure:
            self._stream.unread()
        return self._stream.failure is not None or (self._unused and self._stream.ended)

    @property
    def capacity(self):
        return int(self._dialled and self._unused and not self.closed)

    def open(self):
        if not self.capacity:
            raise Closed("a connection has one stream")
        self._unused = False
        return self._stream

    def accept(self):
        if not self._dialled and self._unused and not self._stream.failure:
            self._unused = False
            return self._stream
        self._stream.gone.wait()
        raise Closed("the connection is closed")

    def stats(self):
        return link_stats(self._stream.sock)

    def close(self, grace=0):
        self._stream.close() if self._stream.finished else self._stream.reset()


class FramedListener:
    def __init__(self, sock, tls, deadline):
        self.address = Address(*sock.getsockname()[:2])
        self.sock, self.binding, self.deadline = sock, tls.binding, deadline
        leaf = x509.load_pem_x509_certificates(tls.chain_pem)[0].public_bytes(Encoding.DER)
        self.answer = struct.pack("!H", len(leaf)) + leaf
        self.ready, self.greeters = Queue(256), Pool(256)
        self._accepting = gevent.spawn(self._accept_all)

    def accept(self):
        try:
            return self.ready.get()
        except ShutDown:
            raise Closed("the listener is closed") from None

    def close(self):
        self._accepting.kill()
        self.sock.close()
        self.greeters.kill()
        while not self.ready.empty():
            self.ready.get().close()
        self.ready.shutdown()

    def _accept_all(self):
        while True:
            self.greeters.wait_available()
            try:
                sock, (host, *_) = self.sock.accept()
            except OSError:
                gevent.sleep(0.1)
                continue
            self.take(sock, host.removeprefix("::ffff:") if "." in host else host)

    def take(self, sock, host):
        self.greeters.spawn(self.greet, sock, host)

    def greet(self, sock, host):
        try:
            with gevent.Timeout(self.deadline):
                self.handshake(sock)
                self.ready.put(FramedCarrier(FramedStream(sock), host, self.binding, dialled=False))
        except (gevent.Timeout, OSError, gevent.GreenletExit):
            sock.close()

    def handshake(self, sock):
        """Raises OSError for who is no client."""
        if _read(sock, len(GREETING)) != GREETING:
            raise OSError("no client of ours")
        sock.sendall(self.answer)


class FramedTransport:
    name = "framed"
    cost = 2.0
    listener = FramedListener
    deadline = 2.0

    def dial(self, endpoint, tls):
        late = Unreachable(f"{endpoint} did not answer in {self.deadline:g} seconds")
        sock = None
        try:
            with gevent.Timeout(self.deadline, late):
                sock = gsocket.create_connection(endpoint)
                binding = self.handshake(sock, tls)
                return FramedCarrier(FramedStream(sock), endpoint.host, binding, dialled=True)
        except BaseException as error:
            if sock:
                sock.close()
            if isinstance(error, OSError):
                raise Unreachable(f"cannot reach {endpoint}: {error.strerror or error}") from None
            raise

    def handshake(self, sock, tls):
        sock.sendall(GREETING)
        (size,) = struct.unpack("!H", _read(sock, 2))
        return tls.verify([_read(sock, size)])

    def listen(self, endpoint, tls):
        both = not endpoint.host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both or ":" in endpoint.host else socket.AF_INET
        try:
            sock = socket.create_server(endpoint, family=family, backlog=1024, dualstack_ipv6=both)
        except OSError as error:
            raise ConfigError(f"cannot listen on {endpoint}: {error.strerror}") from None
        return self.listener(gsocket.socket(fileno=sock.detach()), tls, self.deadline)


def _head(kind, size):
    return bytes((kind,)) + size.to_bytes(HEAD - 1, "big")


def _read(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError("hung up")
        data += piece
    return data
