"""TCP connections of the applications in benchmarks: direct, or through a proxy."""

import socket
import struct

TIMEOUT = 30
"""Seconds for a connection, and for what is said on it."""


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def read_exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError(f"closed after {len(data)} of {size} bytes")
        data += more
    return data


def connect(target, proxy, timeout=TIMEOUT):
    """A connection to `target`; through a SOCKS5 proxy (RFC 1928), after its reply."""
    sock = socket.create_connection(proxy or target, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if proxy:
        host, port = target
        try:
            sock.sendall(b"\5\1\0\5\1\0\1" + socket.inet_aton(host) + struct.pack(">H", port))
            reply = read_exactly(sock, 2 + 10)
            if reply[3]:
                raise ConnectionError(f"the proxy refused: {reply[3]}")
        except BaseException:
            sock.close()
            raise
    return sock
