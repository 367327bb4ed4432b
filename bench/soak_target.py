"""The target of the applications in bench/soak.py: TCP, HTTP and UDP, with bytes that can be checked.

    python bench/soak_target.py: prints its ports, TCP, HTTP and UDP, and serves until it is killed

A TCP connection begins with HEAD: the kind, the phase in the pattern (of bench/pattern.py), the number of
bytes, and the rate in bytes a second, 0 for full speed.

    D   sends the pattern until the application finishes, or the requested number of bytes, and then their
        count in 8 bytes. The count tells a complete download from one that was cut off
    U   receives the pattern up to its end, and sends the number of bytes in 8 bytes; resets if data differ
    E   echoes up to the end

HTTP: GET /D/PHASE/SIZE returns the pattern, in chunks if the path begins with /C. POST and PUT return the
count.
"""

import contextlib
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pattern import CHUNK, Corrupt, check, part
from tcp import read_exactly

HEAD = struct.Struct("!cIQI")
"""Kind, phase, bytes, bytes a second."""
COUNT = struct.Struct("!Q")
UDP_HOST = "127.0.0.2"
"""The address for UDP. It is not that of lane: lane's late packets could arrive at a reused port."""
BEAT = 0.05
"""Seconds between two pieces of data with a rate."""
PATIENCE = 120
"""Seconds for a silent application: longer than any network failure."""
_RESET = struct.pack("ii", 1, 0)


def reset(sock):
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def paced(sock, phase, size, rate, stop):
    """Send the pattern until `stop()` or up to `size` bytes (0: no limit). Return the number of bytes."""
    sent, begin = 0, time.monotonic()
    while not stop() and (not size or sent < size):
        piece = min(int(rate * BEAT) or 1, CHUNK) if rate else CHUNK
        piece = min(piece, size - sent) if size else piece
        sock.sendall(part(phase + sent, piece))
        sent += piece
        if rate:
            time.sleep(max(0, begin + sent / rate - time.monotonic()))
            if time.monotonic() - begin - sent / rate > 1:
                begin = time.monotonic() - sent / rate  # do not catch up after a stall
    return sent


def take(sock, phase):
    """Receive the pattern up to its end. Return the number of bytes. Raises Corrupt."""
    size, buffer = 0, bytearray(CHUNK)
    while count := sock.recv_into(buffer):
        check(buffer[:count], phase + size)
        size += count
    return size


class Finished:
    """Whether the other side has finished. A thread waits for that."""

    def __init__(self, sock):
        self._event = threading.Event()
        self._sock = sock
        threading.Thread(target=self._wait, daemon=True).start()

    def __call__(self):
        return self._event.is_set()

    def _wait(self):
        with contextlib.suppress(OSError):
            while self._sock.recv(4096):
                pass
        self._event.set()


def answer(sock):
    try:
        with sock:
            sock.settimeout(PATIENCE)
            kind, phase, size, rate = HEAD.unpack(read_exactly(sock, HEAD.size))
            if kind == b"D":
                sock.settimeout(None)  # the application may not read for a while
                sent = paced(sock, phase, size, rate, (lambda: False) if size else Finished(sock))
                sock.sendall(COUNT.pack(sent))
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(PATIENCE)
                sock.recv(1)
            elif kind == b"U":
                sock.settimeout(None)
                sock.sendall(COUNT.pack(take(sock, phase)))
            elif kind == b"E":
                sock.settimeout(None)  # an idle session sends nothing
                while data := sock.recv(65536):
                    sock.sendall(data)
    except Corrupt as caught:
        print(f"CORRUPT {caught}", flush=True)
        reset(sock)
    except OSError:
        reset(sock)


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        kind, phase, size = self.path.strip("/").split("/")
        data = part(int(phase), int(size))
        self.send_response(200)
        if kind == "C":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (data[:1000], data[1000:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(data)

    def do_POST(self):
        phase, size = int(self.path.strip("/").split("/")[1]), int(self.headers["Content-Length"])
        check(self.rfile.read(size), phase)
        body = str(size).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class WebServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # applications may leave


def echo(sock):
    while True:
        sock.sendto(*sock.recvfrom(65535))


def main():
    tcp = socket.create_server(("", 0), backlog=512)
    web = WebServer(("127.0.0.1", 0), Web)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((UDP_HOST, 0))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    threading.Thread(target=echo, args=(udp,), daemon=True).start()
    print("ready", *(port.getsockname()[1] for port in (tcp, web.socket, udp)), flush=True)
    while True:
        threading.Thread(target=answer, args=(tcp.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()
