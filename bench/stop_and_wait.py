"""A proxy as the ones that lane's story begins with: a buffer of 8 KB that is written into its code.

    python bench/stop_and_wait.py server HOST:PORT
    python bench/stop_and_wait.py client HOST:PORT SERVER:PORT

The client speaks SOCKS5 (CONNECT to an IPv4 address). It carries each connection over one TCP connection to
the server, without encryption. Each end sends a buffer, and waits until the other end has answered that it
passed it on. So no more than 8 KB are under way in each direction: 8 KB per round trip, however fast the
line is. It is for measurements alone, and has no time-outs.
"""

import contextlib
import socket
import struct
import sys
import threading

from tcp import address, read_exactly

BUFFER = 8 << 10
ANSWER, DATA = b"A", b"D"
"""Frames: an answer, or data of a length (2 bytes). Data of length 0 is the end."""


def carry(near, tunnel):
    """Copy between an application's or target's socket and the tunnel until both directions have ended."""
    answered, writing, at_end = threading.Semaphore(0), threading.Lock(), threading.Event()

    def send(frame):
        with writing:
            tunnel.sendall(frame)

    def outward():
        with contextlib.suppress(OSError):  # the other thread sees it too
            while not at_end.is_set():
                data = near.recv(BUFFER)
                if not data:
                    at_end.set()
                send(DATA + struct.pack("!H", len(data)) + data)
                answered.acquire()

    threading.Thread(target=outward, daemon=True).start()
    sending = receiving = True
    while sending or receiving:
        if read_exactly(tunnel, 1) == ANSWER:
            sending = not at_end.is_set()
            answered.release()
            continue
        data = read_exactly(tunnel, *struct.unpack("!H", read_exactly(tunnel, 2)))
        if data:
            near.sendall(data)
        else:
            near.shutdown(socket.SHUT_WR)
            receiving = False
        send(ANSWER)


def serve(tunnel):
    """The server's end: the first 6 bytes are the target's address and port."""
    host, port = struct.unpack("!4sH", read_exactly(tunnel, 6))
    with socket.create_connection((socket.inet_ntoa(host), port)) as target:
        carry(target, tunnel)


def relay(application, server):
    """The client's end: SOCKS5 without authentication (RFC 1928)."""
    read_exactly(application, read_exactly(application, 2)[1])
    application.sendall(b"\5\0")
    assert read_exactly(application, 4) == b"\5\1\0\1", "only CONNECT to an IPv4 address"
    with socket.create_connection(server) as tunnel:
        tunnel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an answer must not wait for more
        tunnel.sendall(read_exactly(application, 6))
        application.sendall(b"\5\0\0\1" + bytes(6))
        carry(application, tunnel)


def listen(at, handle):
    def run(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock, contextlib.suppress(OSError):  # one end has left, and so does the other
            handle(sock)

    with socket.create_server(at) as listener:
        while True:
            threading.Thread(target=run, args=(listener.accept()[0],), daemon=True).start()


def main():
    role, *ends = sys.argv[1:]
    at, *server = map(address, ends)
    listen(at, serve if role == "server" else lambda sock: relay(sock, *server))


if __name__ == "__main__":
    main()
