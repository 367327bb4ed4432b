"""The network that bench/soak.py makes bad: it must lose what it is to lose, and nothing else."""

import contextlib
import socket
import threading

import pytest
from middleman import Middleman

from tests.support.processes import read_exactly

DEADLINE = 30


@pytest.fixture
def between():
    """A middleman, in front of a port that says back what comes, over TCP and UDP."""
    made = Middleman()
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(tcp.getsockname())

    def echo(sock):
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)

    def accept():
        while True:
            try:
                sock, _ = tcp.accept()
            except OSError:
                return
            threading.Thread(target=ignoring(echo), args=(sock,), daemon=True).start()

    def packets():
        while (found := udp.recvfrom(65536)) and found[0] != b"end":
            udp.sendto(f"{found[1][1]} ".encode() + found[0], found[1])

    threads = [threading.Thread(target=each, daemon=True) for each in (accept, packets)]
    for thread in threads:
        thread.start()
    made.start(tcp.getsockname()[1])
    yield made
    made.close()
    udp.sendto(b"end", udp.getsockname())
    tcp.shutdown(socket.SHUT_RDWR)
    tcp.close()
    for thread in threads:
        thread.join(DEADLINE)
    udp.close()


def ignoring(what):
    def run(sock):
        with contextlib.suppress(OSError):
            what(sock)

    return run


def connect(between):
    return socket.create_connection(("127.0.0.1", between.port), DEADLINE)


@pytest.fixture
def packets(between):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(("127.0.0.1", between.port))
        yield sock


def answered(sock, text):
    """The port that the other end saw a packet come from."""
    sock.send(text)
    port, _, rest = sock.recv(100).partition(b" ")
    assert rest == text
    return int(port)


def talks(sock, text=b"hello"):
    sock.sendall(text)
    return read_exactly(sock, len(text)) == text


def test_what_comes_passes_and_so_does_an_end(between, packets):
    with connect(between) as sock:
        assert talks(sock)
        sock.sendall(b"last")
        sock.shutdown(socket.SHUT_WR)
        assert read_exactly(sock, 4) == b"last"
        assert sock.recv(1) == b""
    assert answered(packets, b"one") == answered(packets, b"two")


def test_tcp_stands_still_and_goes_on(between, packets):
    with connect(between) as sock:
        assert talks(sock)
        between.silence("tcp")
        sock.sendall(b"waits")
        assert answered(packets, b"one")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        between.silence()
        sock.settimeout(DEADLINE)
        assert read_exactly(sock, 5) == b"waits"


def test_packets_are_lost(between, packets):
    between.silence("udp")
    packets.send(b"lost")
    with connect(between) as sock:
        assert talks(sock)
    between.silence()
    assert answered(packets, b"two")  # and no answer to the other one


def test_all_is_forgotten(between, packets):
    before = answered(packets, b"one")
    with connect(between) as sock:
        assert talks(sock)
        between.forget()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert answered(packets, b"two") != before
    with connect(between) as sock:
        assert talks(sock)
