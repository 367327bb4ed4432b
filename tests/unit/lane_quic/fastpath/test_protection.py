"""Packets that are sealed and opened many at once: as aioquic does one by one, compiled as in Python."""

import gc

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.crypto import CryptoContext, CryptoError, next_key_phase
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite
from hypothesis import given
from hypothesis import strategies as st
from lane_quic.engine.keys import Direction
from lane_quic.fastpath import protection
from lane_quic.fastpath.protection import Portable

SUITES = {
    CipherSuite.AES_128_GCM_SHA256: 32,
    CipherSuite.AES_256_GCM_SHA384: 48,
    CipherSuite.CHACHA20_POLY1305_SHA256: 32,
}
CID = b"12345678"
HEAD = b"\x41" + CID
BOUNDS = [0, 0x40, 0x4000, 0x10000, 0x4000_0000, 1 << 32]

only_compiled = pytest.mark.parametrize("way", ["compiled"], indirect=True)

suites = st.sampled_from([*SUITES])
numbers = st.builds(lambda bound, more: max(0, bound + more), st.sampled_from(BOUNDS), st.integers(-70, 70))
payloads = st.binary(min_size=2, max_size=60)


def direction(suite, *, seals=False, kind=Direction):
    made = kind(seals=seals) if kind is Direction else kind()
    made.setup(cipher_suite=suite, secret=bytes(range(SUITES[suite])), version=QuicProtocolVersion.VERSION_1)
    return made


def in_python(suite):
    context = direction(suite, kind=CryptoContext)
    return Portable(context.aead, context.hp)


def row(stream, offset, size, count, begin):
    """A row, with other bytes around its data."""
    buffer = bytearray(n * 7 % 251 for n in range(begin + size * count + 9))
    return encode_uint_var(stream), offset, size, count, buffer, begin


rows = st.builds(
    row,
    st.sampled_from([0, 4, 0x40, 0x4000, 1 << 32]),
    st.sampled_from([1, 0x50, 0x1000, 0x10_0000, 1 << 40]),  # far from where they take more bytes
    st.integers(1, 20),
    st.integers(1, 3),
    st.integers(0, 9),
)


def frame(stream, offset, data, *, kind=0x0E):
    length = encode_uint_var(len(data)) if kind & 2 else b""
    return bytes((kind,)) + encode_uint_var(stream) + encode_uint_var(offset) + length + data


def payloads_of(found):
    name, offset, size, count, buffer, begin = found
    for n in range(count):
        data = bytes(buffer[begin + n * size : begin + (n + 1) * size])
        yield b"\x0e" + name + encode_uint_var(offset + n * size) + encode_uint_var(size | 0x4000)[-2:] + data


@given(suites, numbers, st.lists(payloads | rows, min_size=1, max_size=12))
def test_sealed_packets_are_aioquics(suite, number, items):
    slow = direction(suite, kind=CryptoContext)
    plains = []
    for item in items:
        if isinstance(item, bytes):
            plains.append(item)
        else:
            plains += payloads_of(item)
    sealed = apart(direction(suite, seals=True).protection.seal(HEAD, number, items))
    expected = [
        slow.encrypt_packet(HEAD + (n & 0xFFFF).to_bytes(2, "big"), plain, n)
        for n, plain in enumerate(plains, number)
    ]
    assert sealed == expected


def apart(sealed):
    return [data[at : at + size] for data, size in sealed for at in range(0, len(data), size)]


def sealed_in_order(suite, number, plains, head=HEAD):
    return apart(in_python(suite).seal(head, number, plains))


def test_what_continues_is_joined():
    suite = CipherSuite.AES_128_GCM_SHA256
    data = [bytes((n,)) * 50 for n in range(6)]
    plains = [frame(4, 100 + 50 * n, piece) for n, piece in enumerate(data)]
    plains += [frame(8, 400, b"other"), frame(8, 405, b"shorter"[:3]), frame(8, 409, b"a gap before it")]
    plains += [frame(8, 424, b"no length", kind=0x0C), frame(8, 433, b"the end", kind=0x0F), b"\1\1\1"]
    datagrams = sealed_in_order(suite, 7, plains)
    assert direction(suite).protection.open_row(HEAD, 7, [b"before", *datagrams], 1) == [
        (6, frame(4, 100, b"".join(data), kind=0x0C)),
        (2, frame(8, 400, b"othersho", kind=0x0C)),
        *((1, plain) for plain in plains[8:]),
    ]


def test_offsets_that_take_more_bytes_are_joined_too():
    suite = CipherSuite.AES_128_GCM_SHA256
    for bound in (0x40, 0x4000, 0x4000_0000):
        plains = [frame(4, bound + at, bytes(10)) for at in range(-30, 30, 10)]
        datagrams = sealed_in_order(suite, 7, plains)
        whole = frame(4, bound - 30, bytes(60), kind=0x0C)
        assert direction(suite).protection.open_row(HEAD, 7, datagrams, 0) == [(6, whole)]


def test_joined_frames_are_bounded():
    suite = CipherSuite.AES_128_GCM_SHA256
    plains = [frame(4, (1 << 20) + 1400 * n, bytes(1400)) for n in range(100)]
    found = direction(suite).protection.open_row(HEAD, 7, sealed_in_order(suite, 7, plains), 0)
    assert [count for count, _ in found] == [46, 46, 8]
    assert all(len(plain) <= 65000 + 17 for _, plain in found)


@only_compiled
def test_packets_are_joined_as_the_kernel_takes_them():
    """Of one size, but for the last, up to 64 packets and 65,000 bytes. So `udp.offload.together` has it."""
    suite = CipherSuite.AES_128_GCM_SHA256
    sealer, more = direction(suite, seals=True).protection, len(HEAD) + 2 + 16
    for sizes, counts in (
        ([50, 50, 50], [3]),
        ([50, 50, 40, 50], [3, 1]),
        ([40, 50, 50], [1, 2]),
        ([50] * 130, [64, 64, 2]),
        ([1452 - more] * 100, [44, 44, 12]),
        ([65535 - more, 65535 - more, 5], [1, 1, 1]),
    ):
        found = sealer.seal(HEAD, 7, [bytes(size) for size in sizes])
        assert [-(-len(data) // size) for data, size in found] == counts
        assert [len(packet) - more for packet in apart(found)] == sizes
        assert apart(found) == sealed_in_order(suite, 7, [bytes(size) for size in sizes])


DAMAGE = st.one_of(
    st.just(lambda datagram: datagram),
    st.builds(
        lambda at, bit: (
            lambda d: d[: at % len(d)] + bytes((d[at % len(d)] ^ 1 << bit,)) + d[at % len(d) + 1 :]
        ),
        st.integers(0, 200),
        st.integers(0, 7),
    ),
    st.builds(lambda size: lambda d: d[:size], st.integers(0, 60)),
    st.builds(lambda other: lambda _: other, st.binary(max_size=80)),
    st.builds(lambda more: lambda _: HEAD + more, st.binary(max_size=80)),
)
"""What the network does to a datagram."""
FRAMES = st.builds(
    frame,
    st.sampled_from([0, 4, 0x40]),
    st.sampled_from([*range(0, 100, 10), 0x4000 - 10, 0x4000]),
    st.sampled_from([b"", b"x", bytes(10)]),
    kind=st.sampled_from([0x0E, 0x0E, 0x0E, 0x0E, 0x0C, 0x0F, 0x0A]),
)
ODD = st.builds(
    lambda lead, more: lead + more, st.sampled_from([b"\x0e\4", b"\x0e\xc0", b"\x0e\4\xff"]), payloads
)
PLAINS = st.lists(FRAMES | FRAMES | FRAMES | ODD | payloads, min_size=1, max_size=12)


@given(suites, numbers, PLAINS, st.lists(DAMAGE, max_size=12), st.integers(0, 2), st.booleans())
def test_whatever_comes_opens_as_in_python_and_as_in_aioquic(suite, number, plains, damage, start, spins):
    head = bytes((HEAD[0] | spins << 5,)) + CID
    datagrams = sealed_in_order(suite, number, plains, head)
    for at, harm in enumerate(damage[: len(datagrams)]):
        datagrams[at] = harm(datagrams[at])
    slow = direction(suite, kind=CryptoContext)
    ours, theirs = direction(suite).protection, in_python(suite)
    rows = ours.open_row(HEAD, number + start, datagrams, start)
    assert rows == theirs.open_row(HEAD, number + start, tuple(datagrams), start)
    for n, datagram in enumerate(datagrams, number):
        for expected in {n, max(0, n - 5), n + 5, n + 0x7000}:
            opened = ours.open_one(HEAD, expected, datagram)
            assert opened == theirs.open_one(HEAD, expected, datagram)
            try:
                header, plain, known, _ = slow.decrypt_packet(datagram, len(HEAD), expected)
            except (CryptoError, IndexError):
                assert opened is None
            else:
                assert opened in (None, (known, header[0], plain))


class Finalized:
    """Garbage that uses the same code when it is collected: a greenlet that ends may send, too."""

    def __init__(self, use):
        self.use, self.cycle = use, self

    def __del__(self):
        self.use()


def test_what_is_collected_meanwhile_disturbs_nothing():
    suite = CipherSuite.AES_128_GCM_SHA256
    plains = [frame(4, 1000 * n, bytes((n,)) * 500) for n in range(40)]  # none continues another
    datagrams, (other,) = sealed_in_order(suite, 7, plains), sealed_in_order(suite, 3, [b"x" * 900])
    sealer, opener = direction(suite, seals=True).protection, direction(suite).protection
    nested = (direction(suite, seals=True).protection, direction(suite).protection)

    def use():
        nested[0].seal(HEAD, 3, [b"x" * 900])
        nested[1].open_row(HEAD, 3, [other], 0)

    before = gc.get_threshold()
    gc.freeze()  # so that a collection visits only what is made here
    for call, expected in (
        (lambda: opener.open_row(HEAD, 7, datagrams, 0), [(1, plain) for plain in plains]),
        (lambda: apart(sealer.seal(HEAD, 7, plains)), datagrams),
        (lambda: opener.open_one(HEAD, 7, datagrams[0])[2], plains[0]),
    ):
        for size in range(1, 60):  # wherever in the call the collector's turn comes
            gc.collect()
            Finalized(use)
            gc.set_threshold(size, 1, 1)
            try:
                found = call()
            finally:
                gc.set_threshold(*before)
            assert found == expected
    gc.unfreeze()


def test_a_key_update_keeps_the_key_of_headers(way):
    suite = CipherSuite.AES_128_GCM_SHA256
    for asked in (False, True):
        ours, theirs = direction(suite, seals=True), direction(suite, kind=CryptoContext)
        if asked:
            assert ours.protection is ours.protection
        ours.advance(next_key_phase(ours), "test")
        theirs.aead, theirs.secret = next_key_phase(theirs).aead, b""
        packet = theirs.encrypt_packet(HEAD + b"\0\x09", b"payload", 9)
        assert ours.protection.seal(HEAD, 9, [b"payload"]) == [(packet, len(packet))]
        assert isinstance(ours.protection, Portable) == (way == "portable")


ROW = row(4, 100, 10, 3, 0)
WRONG = [
    (HEAD, 1, [b"x"]),  # too short for a sample
    (HEAD, 1, [bytes(65536)]),
    (b"", 1, [b"payload"]),
    (bytes(22), 1, [b"payload"]),
    (HEAD, 1, (b"payload",)),
    (HEAD, 1, ["payload"]),
    (HEAD, 1, [(bytes(9), *ROW[1:])]),
    (HEAD, 1, [(*ROW[:2], 0, *ROW[3:])]),
    (HEAD, 1, [(*ROW[:2], -1, *ROW[3:])]),
    (HEAD, 1, [(*ROW[:2], 0x4000, *ROW[3:])]),
    (HEAD, 1, [(*ROW[:2], 1 << 62, *ROW[3:])]),
    (HEAD, 1, [(*ROW[:3], 0, *ROW[4:])]),
    (HEAD, 1, [(*ROW[:3], -1, *ROW[4:])]),
    (HEAD, 1, [(*ROW[:3], 4, *ROW[4:])]),  # beyond the buffer
    (HEAD, 1, [(*ROW[:3], 1 << 62, *ROW[4:])]),
    (HEAD, 1, [(*ROW[:5], -1)]),
    (HEAD, 1, [(*ROW[:5], 10)]),
    (HEAD, 1, [(*ROW[:5], 1 << 62)]),
    (HEAD, 1, [(ROW[0], (1 << 62) - 20, *ROW[2:])]),
    (HEAD, 1, [(ROW[0], 0x30, *ROW[2:])]),  # offsets of one byte and of two
    (HEAD, 1, [ROW[:5]]),
]


@only_compiled
@pytest.mark.parametrize("arguments", WRONG, ids=lambda arguments: repr(arguments)[:60])
def test_the_compiled_one_refuses_what_it_cannot_seal(arguments):
    sealer = direction(CipherSuite.AES_128_GCM_SHA256, seals=True).protection
    with pytest.raises((ValueError, TypeError)):
        sealer.seal(*arguments)
    assert apart(sealer.seal(HEAD, 1, [ROW])) == sealed_in_order(CipherSuite.AES_128_GCM_SHA256, 1, [ROW])


@only_compiled
@pytest.mark.parametrize(
    "keys",
    [
        ("aes-128-gcm", bytes(15), bytes(12), bytes(16)),
        ("aes-128-gcm", bytes(16), bytes(11), bytes(16)),
        ("aes-128-gcm", bytes(16), bytes(12), bytes(17)),
        ("aes-256-gcm", bytes(16), bytes(12), bytes(16)),
        ("aes-192-gcm", bytes(24), bytes(12), bytes(24)),
    ],
)
def test_the_compiled_one_refuses_keys_of_another_size(keys):
    with pytest.raises(ValueError, match="keys"):
        protection.native.Protection(*keys, True)
