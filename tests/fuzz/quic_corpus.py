"""What peers say when all goes well, taken down packet by packet, and ways to spoil it.

The plaintext of packets from connections that do a bit of everything. Pure functions of a random.Random
otherwise, so that a run can be had again from its seed.
"""

from aioquic.buffer import encode_uint_var
from aioquic.tls import Epoch
from quic_pipe import Pipe

EDGES = (0, 1, 2, 63, 64, 16383, 16384, 65535, 65536, 2**30 - 1, 2**30, 2**31, 2**60, 2**60 + 1, 2**62 - 1)
"""Values of varints about which things change."""
KINDS = (*range(0x20), 0x21, 0x30, 0x31, 0x40, 0xAF, 2**62 - 1)
"""Types of frames: all there are, and some that are none."""
MOST = 1350
"""Bytes of frames in a packet."""


class Recorded(Pipe):
    """A pipe that takes down what its packets say."""

    def __init__(self, **options):
        self.said = []
        super().__init__(**options)

    def _put(self, side, datagram):
        other = self.client if side is self.server else self.server
        keys = other.engine._cryptos.get(Epoch.ONE_RTT)
        if datagram[0] < 0x80 and keys is not None:
            expected = side.engine._spaces[Epoch.ONE_RTT].expected_packet_number
            self.said.append(keys.send.decrypt_packet(datagram, 9, expected)[1])
        super()._put(side, datagram)


def record():
    """The payloads of packets, as often as they came: of streams, acknowledgements, resets, IDs, paths."""
    pipe = Recorded(loss=0.05, jitter=0.01, seed=1)
    pipe.connect().settle(1)
    client, server = pipe.client, pipe.server
    numbers = [client.open(bytes(range(256)) * size, end=size == 1) for size in (0, 1, 2, 20, 100)]
    pipe.settle(1)
    for number in numbers[:4]:
        server.engine.send_stream_data(number, b"an answer" * 500, number == numbers[1])
    pipe.settle(1)
    server.engine.reset_stream(numbers[0], 7)
    client.engine.reset_stream(numbers[3], 7)
    pipe.settle(1)
    server.abandon(numbers[2])
    client.abandon(numbers[3])
    pipe.settle(1)
    client.engine.send_ping(1)
    client.engine.change_connection_id()
    pipe.settle(1)
    client.engine.request_key_update()
    client.engine.send_stream_data(numbers[4], b"more", True)
    pipe.settle(1)
    paths = [encode_uint_var(0x1A) + bytes(range(8)), encode_uint_var(0x1B) + bytes(8)]
    return sorted({*pipe.said, *paths}, key=lambda payload: (len(payload), payload))


def spoiled(corpus, chance):
    """A payload that nobody should send."""
    payload = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4))):
        chance.choice(WAYS)(payload, corpus, chance)
    return bytes(payload[:MOST]) or b"\0"


def _flip(payload, corpus, chance):
    if payload:
        payload[chance.randrange(len(payload))] ^= 1 << chance.randrange(8)


def _cut(payload, corpus, chance):
    del payload[chance.randrange(len(payload) + 1) :]


def _drop(payload, corpus, chance):
    at = chance.randrange(len(payload) + 1)
    del payload[at : at + chance.randrange(1, 9)]


def _splice(payload, corpus, chance):
    other = chance.choice(corpus)
    payload[chance.randrange(len(payload) + 1) :] = other[chance.randrange(len(other) + 1) :]


def _twice(payload, corpus, chance):
    payload *= chance.randrange(2, 5)


def _append(payload, corpus, chance):
    payload += chance.choice(corpus)


def _edge(payload, corpus, chance):
    """Another number in place of what may be one."""
    at = chance.randrange(len(payload) + 1)
    size = 1 << (payload[at] >> 6) if at < len(payload) else 0
    payload[at : at + size] = encode_uint_var(chance.choice(EDGES))


def _invent(payload, corpus, chance):
    """A frame of numbers."""
    numbers = [chance.choice(KINDS)]
    numbers += [
        chance.choice((chance.randrange(20), chance.choice(EDGES))) for _ in range(chance.randrange(7))
    ]
    made = b"".join(map(encode_uint_var, numbers)) + chance.randbytes(chance.choice((0, 0, 8, 24)))
    payload[:] = payload + made if chance.randrange(2) else made + payload


WAYS = (_flip, _flip, _cut, _drop, _splice, _twice, _append, _edge, _edge, _edge, _invent, _invent)
