"""Targets of plain HTTP that play scripts, and the requests to them."""

from contextlib import contextmanager
from types import SimpleNamespace

from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from lane.address import Address

OK = b"HTTP/1.1 200 OK\r\n"
SHORT = OK + b"Content-Length: 2\r\n\r\nok"


def read_head(sock):
    """One head, byte by byte, so that nothing behind it is taken."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = sock.recv(1)
        if not more:
            return b""
        data += more
    return data


@contextmanager
def target(*scripts):
    """A server that plays one script a connection, the last one for all further ones."""
    left = list(scripts)
    found = SimpleNamespace(connections=0, heads=[], done=Event())

    def serve(sock, _):
        found.connections += 1
        script = left.pop(0) if len(left) > 1 else left[0]
        try:
            script(sock, found)
        except OSError:
            pass
        finally:
            sock.close()

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    found.address = Address("127.0.0.1", server.server_port)
    try:
        yield found
    finally:
        server.stop(1)


def answers(data):
    """A script: every request gets `data`."""

    def script(sock, found):
        while head := read_head(sock):
            found.heads.append(head)
            sock.sendall(data)

    return script


def once(data, end=socket.socket.close):
    """A script: one request gets `data`, and then the connection ends."""

    def script(sock, found):
        found.heads.append(read_head(sock))
        sock.sendall(data)
        end(sock)

    return script


def get(where, path="/", *fields, method="GET"):
    lines = [f"{method} http://{where.address}{path} HTTP/1.1", "Host: x", *fields, "", ""]
    return "\r\n".join(lines).encode()


def endless(sock, found):
    """A script: an answer without end, until the connection breaks."""
    found.heads.append(read_head(sock))
    found.sent = 0
    try:
        sock.sendall(OK + b"\r\n")
        while True:
            found.sent += sock.send(bytes(65536))
    except OSError:
        found.done.set()
