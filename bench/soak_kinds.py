"""Exchanges through a lane client, over every protocol. bench/soak_load.py repeats them.

Each is a function of the ends (the client's ports and the target's) and of a `random.Random`. It returns if
everything was right. It raises OSError for a failure, Corrupt if data differ, and Truncated for an answer
that ended cleanly too early.
"""

import http.client
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from packets import Association
from pattern import Corrupt, check, part
from soak_target import COUNT, HEAD, UDP_HOST, paced, reset
from tcp import read_exactly

HOST = "127.0.0.1"
TIMEOUT = 40
"""Seconds for an answer. The client's own limit for a request is shorter and must work."""
DIRECT = "127.0.0.3"
"""An address that the client's rules route directly."""
BLOCKED = "127.0.0.9"
"""An address that the client's rules block."""


class Refused(OSError):
    """The proxy refused the request."""


class Truncated(Corrupt):
    """A clean end in the middle."""


# Connections


def socks5(ends, host, port, command=1):
    """A socket, and the address in the reply (RFC 1928). Raises Refused."""
    sock = dial(ends.proxy)
    name = host.encode()
    try:
        sock.sendall(b"\5\1\0\5" + bytes((command, 0, 3, len(name))) + name + struct.pack("!H", port))
        read_exactly(sock, 2)
        return sock, socks5_reply(sock)
    except BaseException:
        sock.close()
        raise


def socks5_reply(sock):
    head = read_exactly(sock, 4)
    where = read_exactly(sock, {1: 6, 4: 18}[head[3]])
    if head[1]:
        raise Refused(f"reply code {head[1]}")
    return socket.inet_ntoa(where[:4]) if head[3] == 1 else "", struct.unpack("!H", where[-2:])[0]


def socks4a(ends, host, port):
    sock = dial(ends.proxy)
    try:
        sock.sendall(struct.pack("!BBHI", 4, 1, port, 1) + b"soak\0" + host.encode() + b"\0")
        if (code := read_exactly(sock, 8)[1]) != 90:
            raise Refused(f"reply code {code}")
    except BaseException:
        sock.close()
        raise
    return sock


def http_connect(ends, host, port):
    sock = dial(ends.proxy)
    try:
        sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += read_exactly(sock, 1)
        if b" 200 " not in head[:20]:
            raise Refused(head.partition(b"\r")[0].decode())
    except BaseException:
        sock.close()
        raise
    return sock


def dial(port, host=HOST):
    sock = socket.create_connection((host, port), TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


# Exchanges


def download(sock, chance, size):
    """Download everything, up to a clean end."""
    phase, got = chance.randrange(1 << 20), 0
    with sock:
        sock.sendall(HEAD.pack(b"D", phase, size, 0))
        while got < size:
            data = sock.recv(min(size - got, 1 << 17))
            if not data:
                raise Truncated(f"an end after {got} of {size} bytes")
            check(data, phase + got)
            got += len(data)
        tail = b"".join(iter(lambda: sock.recv(64), b""))
    if tail != COUNT.pack(size):
        raise Truncated(f"{tail!r} after all of {size} bytes")


def upload(sock, chance, size):
    """Upload, half-close, and receive the answer after that."""
    phase = chance.randrange(1 << 20)
    with sock:
        sock.sendall(HEAD.pack(b"U", phase, 0, 0))
        paced(sock, phase, size, 0, lambda: False)
        sock.shutdown(socket.SHUT_WR)
        check_count(sock, size)


def check_count(sock, size):
    answer = b"".join(iter(lambda: sock.recv(64), b""))
    if answer != COUNT.pack(size):
        raise Truncated(f"{answer!r} for {size} bytes")


def exchange(sock, chance):
    (download if chance.random() < 0.6 else upload)(sock, chance, chance.randrange(1, 60_000))


def over_socks5(ends, chance):
    exchange(socks5(ends, chance.choice((HOST, "localhost")), ends.tcp)[0], chance)


def over_socks4a(ends, chance):
    exchange(socks4a(ends, chance.choice((HOST, "localhost")), ends.tcp), chance)


def over_http(ends, chance):
    exchange(http_connect(ends, HOST, ends.tcp), chance)


def over_forward(ends, chance):
    exchange(dial(ends.forward), chance)


def over_redirect(ends, chance):
    exchange(dial(ends.tcp, ends.redirect), chance)


def over_reverse(ends, chance):
    """Connect on the server's side to the port for the target."""
    exchange(dial(ends.reverse), chance)


def over_direct(ends, chance):
    exchange(socks5(ends, DIRECT, ends.tcp)[0], chance)


def plain_http(ends, chance):
    """Three exchanges on one connection."""
    connection = http.client.HTTPConnection(HOST, ends.proxy, timeout=TIMEOUT)
    where = f"http://{HOST}:{ends.web}"
    try:
        for kind in "DCP":
            phase, size = chance.randrange(1 << 16), chance.randrange(1, 60_000)
            if kind == "P":
                connection.request("POST", f"{where}/P/{phase}", part(phase, size))
            else:
                connection.request("GET", f"{where}/{kind}/{phase}/{size}")
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise Refused(f"status {response.status}")
            if kind == "P":
                if body != str(size).encode():
                    raise Truncated(f"{body!r} for {size} bytes")
            else:
                check(body, phase)
                if len(body) != size:
                    raise Truncated(f"{len(body)} of {size} bytes")
    except http.client.IncompleteRead as error:
        raise Truncated(repr(error)) from None
    except http.client.HTTPException as error:
        raise ConnectionError(repr(error)) from None
    finally:
        connection.close()


def bind(ends, chance):
    """Open a port on the server. The peer that connects to it sends, and gets an answer."""
    sock, where = socks5(ends, HOST, 0, command=2)
    phase, size = chance.randrange(1 << 20), chance.randrange(1, 60_000)
    with sock, socket.create_connection(where, TIMEOUT) as peer:
        socks5_reply(sock)
        for one, other in ((peer, sock), (sock, peer)):
            threading.Thread(target=send_all, args=(one, part(phase, size)), daemon=True).start()
            got = b""
            while data := other.recv(1 << 17):
                got += data
            check(got, phase)
            if len(got) != size:
                raise Truncated(f"{len(got)} of {size} bytes")


def send_all(sock, data):
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side reports it


def udp(ends, chance):
    with Packets(lambda: Association((HOST, ends.proxy), (UDP_HOST, ends.udp))) as packets:
        for _ in range(3):
            packets.ask(chance)


def udp_forward(ends, chance):
    with Packets(lambda: Association(None, (HOST, ends.udp_forward))) as packets:
        packets.ask(chance)


class Packets:
    """Packets with a description of their content, on one association."""

    def __init__(self, associate):
        try:
            self._link = associate()
        except SystemExit as refused:
            raise Refused(str(refused)) from None
        self._link.udp.connect(self._link.where)  # a reused port receives late packets of others

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._link.udp.close()
        if hasattr(self._link, "tcp"):
            self._link.tcp.close()

    def ask(self, chance):
        """Send a packet, repeat it until it is answered, and check every answer."""
        phase, size = chance.randrange(1 << 20), chance.choice((40, 500, 1100, 1380, 3000, 9000))
        asked = COUNT.pack(phase) + part(phase, size)
        for patience in (1, 2, 4, 8, 16):
            self._link.send(asked)
            end = time.monotonic() + patience
            while (answer := self._link.recv(end - time.monotonic())) is not None:
                check(answer[COUNT.size :], COUNT.unpack_from(answer)[0])
                if answer == asked:
                    return
        raise TimeoutError("no answer to a packet")


def bulk(ends, chance):
    """A transfer at full speed, so that windows grow."""
    upload(socks5(ends, HOST, ends.tcp)[0], chance, 2 << 20)
    download(socks5(ends, HOST, ends.tcp)[0], chance, 4 << 20)


def burst(ends, chance):
    """Many exchanges at once, as for a web page."""
    with ThreadPoolExecutor(16) as threads:
        for one in [threads.submit(over_socks5, ends, random.Random(chance.random())) for _ in range(16)]:
            one.result()


# Everyday failures.


def refused(ends, chance):
    """Nobody listens on the target's port, and the application is told so."""
    with socket.socket() as nobody:
        nobody.bind((HOST, 0))
        must_refuse(lambda: socks5(ends, HOST, nobody.getsockname()[1])[0], "reply code 5")


def blocked(ends, chance):
    must_refuse(lambda: socks5(ends, BLOCKED, ends.tcp)[0], "reply code 2")


def must_refuse(connect, reason):
    try:
        connect().close()
    except Refused as error:
        if str(error) != reason:
            raise
    else:
        raise ConnectionError(f"was not refused with {reason}")


def abort(ends, chance):
    """An application that aborts in the middle."""
    sock = socks5(ends, HOST, ends.tcp)[0]
    kind = chance.choice((b"D", b"E"))
    sock.sendall(HEAD.pack(kind, 0, 1 << 22, 0))
    if kind == b"D" and chance.random() < 0.5:
        sock.recv(chance.randrange(1, 20_000))
    reset(sock)


def nonsense(ends, chance):
    """Clients that send nonsense, or nothing at all."""
    with dial(ends.proxy) as sock:
        words = b"", b"\5", b"\5\1\0\5\1\0\3\xff", b"GET ", b"\xff" * 50, b"CONNECT no HTTP/1.1\r\n\r\n"
        sock.sendall(chance.choice(words))
        time.sleep(chance.random() / 4)


SHORT = {
    "socks5": over_socks5,
    "socks4a": over_socks4a,
    "connect": over_http,
    "http": plain_http,
    "forward": over_forward,
    "redirect": over_redirect,
    "reverse": over_reverse,
    "direct": over_direct,
    "bind": bind,
    "udp": udp,
    "udp-forward": udp_forward,
    "bulk": bulk,
    "burst": burst,
    "refused": refused,
    "blocked": blocked,
    "abort": abort,
    "nonsense": nonsense,
}
SELDOM = {"bulk": 8, "burst": 8}
"""Factors of --every for rare kinds."""
