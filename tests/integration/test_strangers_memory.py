"""What a stranger costs a server in memory: a client whose handshake is done, and who says nothing more.

The server is a process of its own. All its objects come from the C library there, so that its count of the
bytes in use has them all: Python's, OpenSSL's and libev's.
"""

import ctypes
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from gevent import socket
from lane_quic.plugin import QuicTransport
from lane_tls.plugin import TLSTransport

from lane.stream import Address
from lane.testing import client_tls, server_tls
from lane.testing.harness import until

ROOT = Path(__file__).parents[2]
TRANSPORTS = {"quic": QuicTransport, "tls": TLSTransport}
FIRST, MORE = 20, 50
"""Strangers until all is there that is made once, and those that are counted."""
MOST = 36_000
"""Bytes of each. Up to 3 KB are what the C library adds to small objects, and Python itself would not."""
SERVER = """
import ctypes, gc, pickle, sys
from gevent.server import StreamServer
from lane.server import Server
from lane.server.resumption import Resumption
from lane.server.server import ClientDeadlines
from lane.session.registry import Registry
from lane.stream import Address

make, identity = pickle.load(sys.stdin.buffer)
listener = make().listen(Address("127.0.0.1", 0), identity)
registry, resumption = Registry(1 << 24, 1 << 29, 3600.0, 100, 100), Resumption(10.0, 10, 1 << 20)
deadlines = ClientDeadlines(hello=600.0)
server = Server([listener], None, {}, registry, resumption, per_peer=1000, deadlines=deadlines)

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
        "keepcost",
    )]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo

def answer(sock, _):
    gc.collect()
    found = mallinfo()
    sock.sendall(b"%d %d" % (server.census()["strangers"], found.uordblks + found.hblkhd))

asked = StreamServer(("127.0.0.1", 0), answer)
asked.start()
print(listener.address.port, asked.server_port, flush=True)
asked.serve_forever()
"""


class Crowd:
    """A server, and strangers at it."""

    def __init__(self, transport, ports, identity):
        (self._port, self._asked), self._tls = ports, client_tls(identity)
        self._transport, self.carriers = transport, []

    def grow(self, count):
        """As many more strangers."""
        for _ in range(count):
            self.carriers.append(self._transport.dial(Address("127.0.0.1", self._port), self._tls))
        until(lambda: self.ask()[0] == len(self.carriers))
        if hasattr(self.carriers[0], "engine"):  # the last word of the handshake is the server's
            until(lambda: all(one.engine._handshake_confirmed for one in self.carriers))

    def ask(self):
        """Strangers at the server, and bytes that it has in use."""
        with socket.create_connection(("127.0.0.1", self._asked)) as sock:
            return tuple(map(int, sock.recv(100).split()))


@pytest.fixture
def crowd(request):
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("this C library does not say how much is in use")
    make, identity = TRANSPORTS[request.param], server_tls()
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "plugins")))
    environment = {**os.environ, "PYTHONMALLOC": "malloc", "PYTHONPATH": paths}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as server:
        try:
            pickle.dump((make, identity), server.stdin)
            server.stdin.close()
            crowd = Crowd(make(), tuple(map(int, server.stdout.readline().split())), identity)
            yield crowd
            for carrier in crowd.carriers:
                carrier.close()
        finally:
            server.kill()


@pytest.mark.parametrize("crowd", TRANSPORTS, indirect=True)
def test_a_stranger_costs_little(crowd):
    crowd.grow(FIRST)
    before = crowd.ask()[1]
    crowd.grow(MORE)

    def cost():
        return (crowd.ask()[1] - before) / MORE

    until(lambda: cost() < MOST, cost)  # what is not acknowledged yet takes more for a moment
