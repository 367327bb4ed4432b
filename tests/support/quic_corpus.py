"""What peers say when all goes well, taken down packet by packet, and ways to spoil it.

The plaintext of packets from connections that do a bit of everything. Most of what is made of them are frames
in good order with wrong numbers, which reach further than bytes in disorder. Pure functions of a
random.Random, so that a run can be had again from its seed.
"""

from aioquic.buffer import encode_uint_var
from aioquic.tls import Epoch

from tests.support.quic_pipe import Pipe

EDGES = (0, 1, 2, 63, 64, 16383, 16384, 65535, 65536, 2**30 - 1, 2**30, 2**31, 2**60, 2**60 + 1, 2**62 - 1)
"""Values of varints about which things change."""
SHAPES = dict.fromkeys((0x00, 0x01, 0x1E), "") | dict.fromkeys(
    (0x10, 0x12, 0x13, 0x14, 0x16, 0x17, 0x19), "n"
)
SHAPES |= dict.fromkeys((0x05, 0x11, 0x15), "nn") | dict.fromkeys((0x1A, 0x1B), "8") | {0x04: "nnn"}
SHAPES |= {0x02: "nna", 0x03: "nnae", 0x06: "nl", 0x07: "l", 0x18: "nnc", 0x1C: "nnl", 0x1D: "nl", 0x31: "l"}
SHAPES |= {8 | bits: "n" + ("n" if bits & 4 else "") + ("l" if bits & 2 else "r") for bits in range(8)}
"""Of each type of frame, what follows: n a number, l data with their length, r the rest, c a connection ID
and its token, 8 so many bytes, a ranges, e three counters."""
MOST = 1430
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
    for side in (client, server):
        side.engine.datagrams.send(b"a datagram")
    client.engine.change_connection_id()
    pipe.settle(1)
    client.engine.request_key_update()
    client.engine.send_stream_data(numbers[4], b"more", True)
    pipe.settle(1)
    paths = [encode_uint_var(0x1A) + bytes(range(8)), encode_uint_var(0x1B) + bytes(8)]
    return sorted({*pipe.said, *paths}, key=lambda payload: (len(payload), payload))


def take_apart(payload):
    """The frames of a payload: of each its type, and numbers and data in turn."""
    frames, at = [], 0

    def number():
        nonlocal at
        size = 1 << (payload[at] >> 6)
        at += size
        return int.from_bytes(payload[at - size : at], "big") & (1 << 8 * size - 2) - 1

    def data(size):
        nonlocal at
        at += size
        return payload[at - size : at]

    while at < len(payload):
        kind = number()
        frame = [kind]
        for field in SHAPES[kind]:
            match field:
                case "n":
                    frame.append(number())
                case "l":
                    frame.append(data(number()))
                case "r":
                    frame.append(data(len(payload) - at))
                case "8":
                    frame.append(data(8))
                case "c":
                    frame.append(data(payload[at] + 1 + 16))
                case "a":
                    count = number()
                    frame += [number() for _ in range(2 * count + 1)]
                case "e":
                    frame += [number() for _ in range(3)]
        frames.append(frame)
    return frames


def put_together(frames):
    """A payload with such frames, whatever is in them."""
    return b"".join(_bytes(*frame) for frame in frames)


def _bytes(kind, *parts):
    made, shape = encode_uint_var(kind), SHAPES.get(kind, "")
    if "a" in shape and all(isinstance(part, int) for part in parts):
        made += b"".join(map(encode_uint_var, parts[:2])) + encode_uint_var(max(0, len(parts) - 3) // 2)
        parts, shape = parts[2:], ""
    for index, part in enumerate(parts):
        if isinstance(part, int):
            made += encode_uint_var(part)
        else:
            made += (encode_uint_var(len(part)) if shape[index : index + 1] == "l" else b"") + part
    return made


def spoiled(corpus, chance, sent=None):
    """A payload that nobody should send; `sent`: packets that may be acknowledged, mostly no others are."""
    frames = take_apart(chance.choice(corpus))
    for frame in frames:
        if sent and frame[0] == 0x02 and frame[1] >= sent and chance.random() < 0.9:
            frame[1] = chance.randrange(sent)
            frame[3:] = [chance.randrange(frame[1] + 1)]
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 6))):
        chance.choice(FRAME_WAYS)(frames, corpus, chance)
    payload = bytearray()
    for frame in frames:
        if len(payload) + len(said := put_together([frame])) <= MOST:
            payload += said
    if chance.random() < 0.06:
        chance.choice(BYTE_WAYS)(payload, corpus, chance)
    return bytes(payload) or b"\0"


def _another(number, chance):
    near = (number + chance.choice((-4, -1, 1, 4, 8, 1000)), chance.randrange(20), 4 * chance.randrange(70))
    return min(max(0, chance.choice((*near, chance.choice(EDGES)))), 2**62 - 1)


def _wrong(frames, corpus, chance):
    if frames:
        frame = chance.choice(frames)
        index = chance.randrange(len(frame))
        if isinstance(frame[index], int):
            if index or chance.random() < 0.3:
                frame[index] = _another(frame[index], chance)
        else:
            data = bytearray(frame[index])
            for _ in range(chance.randrange(4)):
                _flip(data, corpus, chance)
            cut, more = data[: len(data) // 2], data + bytes(9)
            frame[index] = bytes(chance.choice((b"", cut, more, bytes(900), data, data, data)))


def _again(frames, corpus, chance):
    if frames:
        frames += [list(chance.choice(frames)) for _ in range(chance.choice((1, 2, 30)))]


def _leave_out(frames, corpus, chance):
    if frames:
        frames.pop(chance.randrange(len(frames)))


def _of_another(frames, corpus, chance):
    other = take_apart(chance.choice(corpus))
    frames.insert(chance.randrange(len(frames) + 1), chance.choice(other))


def _invent(frames, corpus, chance):
    kind = chance.choice((*SHAPES, *range(0x20), 0x40))
    frame = [kind]
    for field in SHAPES.get(kind, "nn"):
        data = {"8": 8, "l": chance.choice((0, 1, 900)), "r": chance.choice((0, 1, 900))}
        if field == "c":
            frame.append(b"\x08" + chance.randbytes(8 + 16))
        elif field in data:
            frame.append(chance.randbytes(data[field]))
        else:
            frame.append(_another(chance.randrange(10), chance))
    frames.insert(chance.randrange(len(frames) + 1), frame)


def _flip(payload, corpus, chance):
    if payload:
        payload[chance.randrange(len(payload))] ^= 1 << chance.randrange(8)


def _cut(payload, corpus, chance):
    del payload[chance.randrange(len(payload) + 1) :]


def _splice(payload, corpus, chance):
    other = chance.choice(corpus)
    payload[chance.randrange(len(payload) + 1) :] = other[chance.randrange(len(other) + 1) :]


def _edge(payload, corpus, chance):
    at = chance.randrange(len(payload) + 1)
    size = 1 << (payload[at] >> 6) if at < len(payload) else 0
    payload[at : at + size] = encode_uint_var(chance.choice(EDGES))


FRAME_WAYS = (_wrong, _wrong, _wrong, _again, _leave_out, _of_another, _of_another, _invent, _invent)
BYTE_WAYS = (_flip, _cut, _splice, _edge)
