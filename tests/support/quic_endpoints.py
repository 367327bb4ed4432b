"""What the tests of QUIC's endpoints stand on: a relay that harms datagrams, first flights, a fence, and how
much there is of whatever a peer may have an endpoint keep.
"""

from contextlib import suppress

import gevent
from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_quic_header
from aioquic.tls import Epoch
from gevent import socket
from lane_quic import streams
from lane_quic.configuration import client_configuration
from lane_quic.engine import assembler, peer_limits
from lane_quic.engine.engine import Engine
from lane_quic.engine.flow_control import STREAMS
from lane_quic.recovery import recovery

from lane.testing.harness import pattern, read_all, send_all

ODD_VERSION = b"\x1a\x2a\x3a\x4a"


def udp(address="127.0.0.1", port=0):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock


class Relay:
    """Stands between a client and a server. `harm(datagram, up)` gives what is passed on of a datagram."""

    def __init__(self, target):
        self.target = tuple(target)
        self.harm = lambda datagram, up: [datagram]
        self._front, self._client = udp(), None
        self.port = self._front.getsockname()[1]
        self._jobs, self._backs = [gevent.spawn(self._up)], []
        self.rebind()

    def rebind(self):
        """Have the server see the client at another port from now on."""
        self._backs.append(udp())
        self._jobs.append(gevent.spawn(self._down, self._backs[-1]))

    def close_front(self):
        """Close the port that the client sends to."""
        self._jobs.pop(0).kill()
        self._front.close()

    def open_front(self):
        """Open it again."""
        self._front = udp(port=self.port)
        self._jobs.insert(0, gevent.spawn(self._up))

    def _up(self):
        while True:
            data, self._client = self._front.recvfrom(65536)
            for passed in self.harm(data, True):
                self._backs[-1].sendto(passed, self.target)

    def _down(self, back):
        while True:
            data = back.recv(65536)
            if back is self._backs[-1]:
                with suppress(OSError):  # the front may be closed
                    for passed in self.harm(data, False):
                        self._front.sendto(passed, self._client)

    def close(self):
        gevent.killall(self._jobs)
        for sock in (self._front, *self._backs):
            sock.close()


def first_flight(size=1200):
    """The first datagram of a new client. A `size` under 1200 is what no client may send."""
    engine = Engine(client_configuration("server.test"))
    engine._max_datagram_size = size
    engine.connect("server", now=0.0)
    return engine.datagrams_to_send(now=0.0)[0][0]


def odd_version(size=1200):
    """The first datagram of a client of another version: the answer is immediate and without state."""
    start = b"\xc0" + ODD_VERSION + b"\x08clientID" + b"\x04from"
    return start + b"\x00\x44\x00" + bytes(size - len(start) - 3)


def answers(sock, target):
    """What `target` sent back to `sock` so far: all that comes before the answer to one more question."""
    sock.sendto(odd_version(), tuple(target))
    found = []
    while not _is_negotiation(data := sock.recv(65536)):
        found.append(data)
    return found


def _is_negotiation(data):
    return data[0] & 0x80 and pull_quic_header(Buffer(data=data), host_cid_length=8).supported_versions


def exchange(near, far, size=100_000):
    """Carry `size` bytes there, and others back, over a new stream."""
    up, down = pattern(size, 1), pattern(size, 2)
    stream = near.open()
    sending = gevent.spawn(send_all, stream, up)
    other = far.accept()
    assert read_all(other) == up
    back = gevent.spawn(send_all, other, down)
    assert read_all(stream) == down
    gevent.joinall([sending, back], raise_error=True)


def sizes(end):
    """Of a carrier: how much there is of what its peer has a say in."""
    engine, space = end.engine, end.engine._spaces[Epoch.ONE_RTT]
    receivers = [stream.receiver for _, stream in engine._streams.items()]
    return {
        "streams": len(engine._streams),
        "the carrier's streams": len(end._streams),
        "streams that wait": len(end._streams.waiting),
        "events": len(engine._events),
        "packets with an ACK alone": sum(not p.in_flight for p in space.sent_packets.values()),
        "packets in flight": sum(p.in_flight for p in space.sent_packets.values()),
        "ranges to acknowledge": len(space.ack_queue),
        "packet numbers": len(space.received_packets._received),
        "pieces": sum(len(r.held) for r in receivers),
        "bytes ahead": sum(r._held for r in receivers),
        "bytes of TLS": engine._crypto_streams[Epoch.ONE_RTT].receiver._held
        + len(engine.tls._receive_buffer if engine.tls else b""),
        "challenges": max(len(path.remote_challenges) for path in engine._network_paths),
        "paths": len(engine._network_paths),
        "peer's connection IDs": len(engine._peer_cid_available),
        "those ever known": len(engine._peer_cid_sequence_numbers),
        "those to be retired": len(engine._retire_connection_ids),
        "our connection IDs": len(engine._host_cids),
        "abandoned": len(engine.abandoned),
        "writers": len(end.waiting),
    }


BOUNDS = {
    "streams": STREAMS,
    "the carrier's streams": 2 * STREAMS,
    "streams that wait": streams.MAX_WAITING + 1,
    "events": 1,  # all are acted upon at the end of a batch
    "packets with an ACK alone": recovery.ACK_ONLY_PACKETS + 1,
    "packets in flight": 3000,  # the window holds no more of the smallest ones
    "ranges to acknowledge": 64,
    "packet numbers": 2 * 1024 + 1,
    "pieces": assembler.PIECES * 2,
    "bytes ahead": 65536,
    "bytes of TLS": peer_limits.MOST_CRYPTO,
    "challenges": 32,
    "paths": 8,
    "peer's connection IDs": 8,
    "those ever known": peer_limits.MOST_PEER_CIDS,
    "those to be retired": 34,
    "our connection IDs": 8,
    "abandoned": STREAMS,
    "writers": STREAMS,
}
"""Of a server's side: the most of each, whatever a peer does."""
