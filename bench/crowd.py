"""A crowd of strangers at a lane server, as a process. bench/strangers.py starts it beside one honest user.

    python bench/crowd.py ATTACK TRANSPORT LINK COUNT SOURCE...

`COUNT` strangers connect at once, from the addresses `SOURCE` in turn. A refused stranger connects again. The
program runs until it is ended, and prints the number of connections once a second.
"""

import sys
from contextlib import suppress
from itertools import cycle

import gevent
from gevent import socket as gsocket
from lane_quic import endpoint
from lane_quic.plugin import QuicTransport
from lane_tls.plugin import TLSTransport

from lane.certs import PinnedTLS
from lane.errors import LaneError
from lane.link import Link
from lane.proto.hello import pack_hello

PAUSE = 0.02
"""Seconds until a refused stranger connects again."""
STAY = 600.0


class Crowd:
    def __init__(self, transport, link, sources):
        self.at, self.tls = link.address, PinnedTLS(link.pin)
        self.sources = cycle(sources)
        self.came = 0
        if transport == "tls":
            self.transport = TLSTransport()
            self.transport.connect = lambda address, timeout: self.connect()
        else:
            self.transport = QuicTransport()
            endpoint.socket.socket.connect = self.bound(endpoint.socket.socket.connect)

    def bound(self, connect):
        """UDP sockets that leave from the next address."""

        def bind_and_connect(sock, address):
            sock.bind((next(self.sources), 0))
            connect(sock, address)

        return bind_and_connect

    def connect(self):
        return gsocket.create_connection(self.at, 10, source_address=(next(self.sources), 0))

    def silent(self):
        """A TCP connection, and not a byte."""
        with self.connect() as sock:
            sock.settimeout(STAY)
            sock.recv(1)

    def half(self):
        """The first byte of a handshake, and no more."""
        with self.connect() as sock:
            sock.settimeout(STAY)
            sock.sendall(b"\x16")
            sock.recv(1)

    def unproven(self):
        """A handshake, and no HELLO."""
        carrier = self.transport.dial(self.at, self.tls)
        with gevent.Timeout(STAY, False):
            while not carrier.closed:
                gevent.sleep(0.1)
        carrier.close()

    def guess(self):
        """A HELLO with a wrong key."""
        carrier = self.transport.dial(self.at, self.tls)
        try:
            stream = carrier.open()
            stream.sendall(pack_hello(bytes(32)))
            stream.recv()
        finally:
            carrier.close()

    def stranger(self, attack):
        while True:
            self.came += 1
            with suppress(OSError, LaneError):
                getattr(self, attack)()
            gevent.sleep(PAUSE)


def run(kind, attack, transport, link, count, *sources):
    """Run a crowd of class `kind` forever."""
    crowd = kind(transport, Link.parse(link), sources)
    for _ in range(int(count)):
        gevent.spawn(crowd.stranger, attack)
    while True:
        before = crowd.came
        gevent.sleep(1)
        print(f"came {crowd.came - before}", flush=True)


if __name__ == "__main__":
    run(Crowd, *sys.argv[1:])
