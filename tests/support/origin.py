"""What the applications of the end-to-end tests reach: a web server, an echo and others, in threads.

Run as a script it is an origin of its own: `origin.py HOST` prints the port of its web server, and
serves until its input ends, for tests in which it lives in another network namespace.
"""

import hashlib
import random
import socket
import socketserver
import sys
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MB = 1_000_000
BIG = 32 * MB
"""Bytes of a transfer that outlasts every window and buffer on its way."""
CONTENT = random.Random(1).randbytes(BIG + 1000)
"""What the origin serves: pieces of it, so that a byte out of place is seen."""


def read_to_end(sock):
    """All until the end of data; raises where it is an error."""
    data = bytearray()
    while more := sock.recv(1 << 18):
        data += more
    return bytes(data)


class Web(BaseHTTPRequestHandler):
    """`GET /START/SIZE` gives that piece of CONTENT; what is uploaded is answered with its SHA-256."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        start, size = map(int, self.path.strip("/").split("/"))
        self._answer(memoryview(CONTENT)[start : start + size])

    def do_POST(self):
        digest = hashlib.sha256()
        if "Content-Length" in self.headers:
            self._read(int(self.headers["Content-Length"]), digest)
        else:
            while size := int(self.rfile.readline(), 16):
                self._read(size, digest)
                self.rfile.readline()
            self.rfile.readline()
        self._answer(digest.hexdigest().encode())

    def _read(self, left, digest):
        while left and (data := self.rfile.read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)

    do_PUT = do_POST

    def _answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Echo(socketserver.BaseRequestHandler):
    """Sends back what comes, until the end of it."""

    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Digest(socketserver.BaseRequestHandler):
    """Reads to the end, and answers with the SHA-256 and then with all that was read."""

    def handle(self):
        data = read_to_end(self.request)
        self.request.sendall(hashlib.sha256(data).hexdigest().encode() + data)


class Endless(socketserver.BaseRequestHandler):
    """Sends the first 10 MB of CONTENT over and over; `server.lost` hears when that fails."""

    def handle(self):
        piece = memoryview(CONTENT)[: 10 * MB]
        try:
            while True:
                self.request.sendall(piece)
        except OSError:
            self.server.lost.set()


class _TCP(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # an application that is killed is what many tests are about


class _HTTP(ThreadingHTTPServer):
    request_queue_size = 256
    handle_error = _TCP.handle_error

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # without looking its own name up


class Origin:
    """Targets on `host`: the ports `web`, `echo`, `digest`, `endless`, and `closed`, where nobody listens."""

    def __init__(self, host="127.0.0.1"):
        self.host = host
        self._stack = ExitStack()
        self.web = self._serve(_HTTP, Web)
        self.echo = self._serve(_TCP, Echo)
        self.digest = self._serve(_TCP, Digest)
        self.endless = self._serve(_TCP, Endless)
        # Bound and not listening: refuses, and is given to nobody else.
        reserved = self._stack.enter_context(socket.socket())
        reserved.bind((host, 0))
        self.closed = reserved.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _serve(self, kind, handler):
        server = kind((self.host, 0), handler)
        server.lost = self.lost = threading.Event()
        self._stack.callback(server.server_close)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.shutdown)
        return server.server_address[1]


if __name__ == "__main__":
    with Origin(sys.argv[1]) as origin:
        print(origin.web, flush=True)
        sys.stdin.read()
