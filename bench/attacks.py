"""Floods from a peer with an established connection: the packets of each attack, and the peer that sends
them.

lane's own engine does an ordinary handshake. A user's key is not needed. Then the peer encrypts and sends the
frames of an attack. It also acknowledges packets as an honest client does, unless the attack is silent. Each
attack is a function of the peer and of the number of packets sent so far. It returns the next packet's
frames.
"""

import os
import socket
import time
from contextlib import suppress

from aioquic.buffer import encode_uint_var
from aioquic.tls import Epoch
from lane_quic.configuration import client_configuration
from lane_quic.engine.engine import Engine
from lane_quic.engine.peer_limits import FIRST_SKIPPED

DEADLINE = 10.0
SOCKETS = 50
"""The most open sockets. Older ones are closed."""
ROOM = 1100
"""Bytes of frames in a packet."""
BORNE = 15
"""Frames in each packet that lane tolerates permanently. With more it closes the connection."""


def frame(kind, *numbers, data=b""):
    return b"".join(map(encode_uint_var, (kind, *numbers))) + data


class Peer:
    """A client of the server at `port` on loopback. `sockets`: the module whose sockets it uses."""

    def __init__(self, port, sockets=socket, sleep=time.sleep):
        self.engine = Engine(client_configuration("server.test"))
        self.address, self.sockets = ("127.0.0.1", port), sockets
        self.sent = self.received = 0
        self.silent = False
        self.socks = []
        self.another_socket()
        self.engine.connect("server", now=time.monotonic())
        end = time.monotonic() + DEADLINE
        while not self.engine._handshake_confirmed:
            if time.monotonic() > end:
                raise ConnectionError("no handshake")
            self.listen()
            sleep(0.001)

    def another_socket(self):
        """Send from another port from now on."""
        for old in self.socks[:-SOCKETS]:
            old.close()
        self.socks = self.socks[-SOCKETS:]
        sock = self.sockets.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(self.address)
        sock.setblocking(False)
        self.socks.append(sock)

    def listen(self):
        """Receive packets, and answer as an honest client does."""
        now = time.monotonic()
        for sock in self.socks:
            try:
                while True:
                    data = sock.recv(65536)
                    self.received += len(data)
                    if not self.silent:
                        self.engine.receive_datagram(data, "server", now)
            except OSError:
                pass
        if (
            not self.silent and self.engine._close_event is None
        ):  # from then on its keys are needed and nothing else
            while self.engine.next_event():
                pass
            if (at := self.engine.get_timer()) is not None and at <= now:
                self.engine.handle_timer(now)
            for data, _ in self.engine.datagrams_to_send(now):
                self.put(data)

    @property
    def closed(self):
        """Whether this side knows that the server has ended the connection."""
        return self.engine.ended_by_peer is not None

    def put(self, data):
        with suppress(OSError):
            self.sent += self.socks[-1].send(data)

    def say(self, payload):
        """Send a packet with the frames `payload`, which may be invalid."""
        self.put(self.seal(payload))

    def seal(self, payload, phase=0):
        engine = self.engine
        number = engine._packet_number
        engine._packet_number += 1
        keys = engine._cryptos[Epoch.ONE_RTT]
        first = 0x41 | (keys.key_phase ^ phase) << 2
        header = bytes((first,)) + engine._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
        return keys.encrypt_packet(header, payload.ljust(4, b"\0"), number)

    def close(self):
        for sock in self.socks:
            sock.close()


def next_stream(peer):
    """The ID of the next stream that the server allows; None if it allows none now."""
    engine = peer.engine
    if not engine.capacity:
        return None
    engine._local_next_stream_id_bidi += 4
    return engine._local_next_stream_id_bidi - 4


def on_streams(*frames):
    """An attack that sends `frames` for each new stream, on as many streams as allowed."""

    def attack(peer, number):
        stream = next_stream(peer)
        return frame(1) if stream is None else b"".join(make(stream) for make in frames)

    return attack


def byte(stream):
    return frame(0x0A, stream, 1, data=b"x")


def reset(final):
    return lambda stream: frame(0x04, stream, 7, final)


def stop(stream):
    return frame(0x05, stream, 7)


def stops(peer, number):
    return byte(0) + stop(0) * BORNE


def challenges(peer, number):
    """Challenges in datagrams of 1200 bytes, as RFC 9000, section 8.2.1, wants them."""
    return b"".join(frame(0x1A, data=os.urandom(8)) for _ in range(BORNE)).ljust(1180, b"\0")


def new_ids(peer, number):
    """More and more connection IDs, each of which retires all before it."""
    name = number + peer.engine._host_cid_seq
    return frame(0x18, name, name, 8, data=os.urandom(8 + 16))


def more_ids(peer, number):
    name = number + peer.engine._host_cid_seq
    return frame(0x18, name, 0, 8, data=os.urandom(8 + 16))


def retire(peer, number):
    """Retire all connection IDs that the server has announced and that are not in use."""
    known, peer.engine._peer_cid_available = peer.engine._peer_cid_available, []
    peer.engine._peer_cid_sequence_numbers.clear()  # its own bounds are not in question
    peer.engine._local_active_connection_id_limit = 1 << 20
    return b"".join(frame(0x19, cid.sequence_number) for cid in known) or frame(1)


def far_crypto(peer, number):
    return frame(0x06, 524_000 - number, 1, data=b"x")


def long_crypto(peer, number):
    """A TLS message of 16 MB that never ends."""
    data = b"\4\xff\xff\xff".ljust(ROOM, b"\0") if not number else bytes(ROOM)
    return frame(0x06, number * ROOM, ROOM, data=data)


def ping(peer, number):
    return frame(1)


def dense(said):
    """An attack that fills its packets with one kind of frame."""
    return lambda peer, number: byte(0) + said * (ROOM // len(said))


def limits(peer, number):
    """Rising limits, and frames that report being blocked."""
    plain, of_stream = (0x10, 0x12, 0x13, 0x14, 0x16, 0x17), (0x11, 0x15)
    said = b"".join(frame(kind, (1 << 40) + number) for kind in plain)
    said += b"".join(frame(kind, 0, (1 << 40) + number) for kind in of_stream)
    return byte(0) + said * (BORNE // 8)


def sparse(peer, number):
    """Single bytes with gaps between them, all within the window."""
    step = ROOM // 8
    return b"".join(
        frame(0x0E, 0, 1 + 2 * (number * step + index) % 60_000, 1, data=b"x") for index in range(step)
    )


def bytewise(peer, number):
    """The next bytes of a stream, each in its own frame."""
    count = ROOM // 7
    return b"".join(frame(0x0E, 0, number * count + index, 1, data=b"x") for index in range(count))


def far(peer, number):
    """The last byte of the window: the most memory that one frame can make the server hold."""
    return frame(0x0E, 4 * (number % 8), 8191, 1, data=b"x")


def beyond(peer, number):
    return frame(0x0E, 0, 1 << 30, 1, data=b"x")


def optimistic(peer, number):
    """Acknowledge packets that were never sent."""
    return frame(0x02, (1 << 30) + number, 0, 0, 1 << 29)


def ranges(peer, number):
    """As many ACK ranges as there were packets, before the first packet number that the server skips."""
    largest = min(peer.engine._spaces[Epoch.ONE_RTT].largest_received_packet, FIRST_SKIPPED - 1)
    count = max(0, largest // 2 - 20)
    return frame(1) + frame(0x02, largest, 0, count, 0) + bytes(2 * count)


def keys(peer, number):
    """A key update with each packet."""
    peer.engine.keys.update_key()
    return frame(1)


def phases(peer, number):
    """Packets with the other key phase that cannot be decrypted."""
    peer.put(peer.seal(frame(1), phase=1))


def ports(peer, number):
    """Each packet from another port, with another connection ID if there is one."""
    peer.another_socket()
    peer.engine.change_connection_id()
    return frame(1)


STREAMS = {
    "reset streams": on_streams(reset(0)),
    "reset streams with a byte": on_streams(byte, reset(1)),
    "stopped streams": on_streams(byte, stop, reset(1)),
    "streams opened by limits": on_streams(lambda stream: frame(0x11, stream, 1)),
}
"""The attacks that open stream after stream."""
ATTACKS = STREAMS | {
    "stops": stops,
    "path challenges": challenges,
    "new connection IDs": new_ids,
    "too many connection IDs": more_ids,
    "retired connection IDs": retire,
    "CRYPTO far ahead": far_crypto,
    "CRYPTO without end": long_crypto,
    "pings": ping,
    "limits": limits,
    "single bytes": sparse,
    "far bytes": far,
    "beyond the window": beyond,
    "pings, dense": dense(frame(1)),
    "stops, dense": dense(stop(0)),
    "path challenges, dense": dense(frame(0x1A, data=bytes(8))),
    "ACKs, dense": dense(frame(0x02, 0, 0, 0, 0)),
    "empty data, dense": dense(frame(0x08 + 2, 0, 0)),
    "empty datagrams, dense": dense(frame(0x31, 0)),
    "a byte a frame, dense": bytewise,
    "HANDSHAKE_DONE": lambda peer, number: frame(0x1E),
    "unknown frames": lambda peer, number: frame(0x21),
    "optimistic ACKs": optimistic,
    "ACKs of many ranges": ranges,
    "key updates": keys,
    "other key phases": phases,
    "other ports": ports,
}
"""All attacks. Each returns the frames of the packet with a number, or None if it has sent that itself."""
SILENT = {"pings", "path challenges", "new connection IDs", "limits"}
"""The attacks that do more harm without acknowledgements."""


def attack(name, peer, number):
    """Send the packet with that number."""
    if not number and name not in STREAMS:
        peer.engine._local_next_stream_id_bidi = 256  # what it hears of streams is no surprise
    if (payload := ATTACKS[name](peer, number)) is not None:
        peer.say(payload)
