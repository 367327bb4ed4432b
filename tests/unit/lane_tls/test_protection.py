"""Records: RFC 8448's, what must come out again, and what a peer must not send."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from lane_tls import protection
from lane_tls.protection import (
    ALERT,
    BAD_RECORD_MAC,
    DATA,
    FULL,
    HANDSHAKE,
    MOST_SEALED,
    OVERHEAD,
    RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE,
    UNKNOWN,
    WHOLE,
    Opened,
    Protection,
)

SUITE = "TLS_AES_128_GCM_SHA256"
SECRET = bytes(range(32))
NOTHING = memoryview(b"")


def seal(protection, kind, content, head=b""):
    out = memoryview(bytearray(len(head) + len(content) + (len(content) // FULL + 2) * OVERHEAD))
    return bytes(out[: protection.seal(out, 0, kind, head, memoryview(content))])


def open_all(protection, sealed, limit=1 << 18):
    plain = memoryview(bytearray(limit + MOST_SEALED))
    found = protection.open(memoryview(sealed), 0, plain, 0, limit)
    return found, bytes(plain[: found.made]), bytes(plain[found.made : found.made + found.other])


def record(inner, header=None, number=0):
    """A record with any content behind any header, under the right key."""
    key = protection._expand(SECRET, b"key", 16, "sha256")
    iv = int.from_bytes(protection._expand(SECRET, b"iv", 12, "sha256"), "big")
    header = header or b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
    return header + AESGCM(key).encrypt((iv ^ number).to_bytes(12, "big"), inner, header)


@pytest.mark.parametrize(
    ("secret", "number", "sealed"),
    [
        (
            "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5",
            1,
            "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3",
        ),
        (
            "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
            2,
            "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9",
        ),
    ],
)
def test_the_last_records_of_rfc_8448_section_3(secret, number, sealed):
    keys = SUITE, bytes.fromhex(secret), number
    assert seal(Protection(*keys), ALERT, b"\1\0").hex() == sealed
    found, data, other = open_all(Protection(*keys), bytes.fromhex(sealed))
    assert (found.kind, data, other) == (ALERT, b"", b"\1\0")


def test_a_short_record_is_that_of_others_and_whatever_else_comes_is_left_to_them():
    short, usual = Protection(SUITE, SECRET, 0), Protection(SUITE, SECRET, 0)
    reads, whole = Protection(SUITE, SECRET, 0), b"in one record"
    for data in (b"x", whole, bytes(FULL - 1)):
        sealed = short.seal_short(data)
        assert sealed == seal(usual, DATA, data)
        others = sealed[:-1], sealed + b"\x17", sealed + sealed, sealed[:-1] + bytes((sealed[-1] ^ 1,))
        assert [reads.open_short(other) for other in others] == [None] * 4
        assert reads.open_short(sealed) == data
    for inner in (whole + b"\x17\0", whole + b"\x15", b"\x17", b""):  # padded, an alert, empty, nothing
        assert reads.open_short(record(inner, number=3)) is None
    assert open_all(reads, record(whole + b"\x17\0", number=3))[1] == whole, "nothing was taken before"


@pytest.mark.parametrize("suite", protection._SUITES)
def test_each_suite_has_keys_of_its_own_size(suite):
    secret = bytes(48 if suite.endswith("384") else 32)
    sealed = seal(Protection(suite, secret, 0), DATA, b"data", b"head and ")
    assert open_all(Protection(suite, secret, 0), sealed)[1] == b"head and data"
    later = protection.next_secret(suite, secret)
    assert len(later) == len(secret)
    assert later != secret


@given(
    st.integers(0, 3 * FULL),
    st.sampled_from([0, 1, 9, FULL - 1, FULL]),
    st.integers(FULL, 4 * FULL),
    st.data(),
)
def test_what_is_sealed_opens_again_in_whatever_pieces(size, lead, limit, draw):
    data, head = bytes(range(256)) * (size // 256 + 1), bytes([255]) * lead
    sealer, opener = Protection(SUITE, SECRET, 7), Protection(SUITE, SECRET, 7)
    wire = seal(sealer, DATA, data[:size], head) + seal(sealer, DATA, b"more")
    got, rest = b"", b""
    while wire or rest:
        step = draw.draw(st.integers(1, 2 * FULL))
        rest, wire = rest + wire[:step], wire[step:]
        while True:
            found, made, _ = open_all(opener, rest, limit)
            assert found.kind == DATA
            assert len(made) <= limit
            got, rest = got + made, rest[found.start :]
            if found.lacks != WHOLE:
                break
        if rest:
            assert found.lacks == UNKNOWN if len(rest) < 5 else found.lacks > 0
    assert got == head + data[:size] + b"more"


def test_only_a_first_record_may_exceed_the_limit():
    wire = seal(Protection(SUITE, SECRET, 0), DATA, bytes(2 * FULL))
    opener = Protection(SUITE, SECRET, 0)
    found, data, _ = open_all(opener, wire, 100)
    assert (found.made, found.lacks, len(data)) == (FULL, WHOLE, FULL)
    found, data, _ = open_all(Protection(SUITE, SECRET, 0), wire, FULL + 100)
    assert (found.made, found.lacks) == (FULL, WHOLE)


def test_padding_is_no_content():
    wire = (
        record(b"data\x17" + bytes(100)) + record(b"\x17" + bytes(9), number=1) + record(b"x\x16\0", number=2)
    )
    found, data, other = open_all(Protection(SUITE, SECRET, 0), wire)
    assert (found.kind, data, other) == (HANDSHAKE, b"data", b"x")


@pytest.mark.parametrize(
    ("wire", "alert"),
    [
        (b"\x14\x03\x03\0\1\1", UNEXPECTED_MESSAGE),  # change_cipher_spec, after the handshake
        (b"\x15\x03\x03\0\2\1\0", UNEXPECTED_MESSAGE),  # an alert that nobody sealed
        (b"\x17\x03\x03" + (MOST_SEALED + 1).to_bytes(2, "big"), RECORD_OVERFLOW),
        (record(bytes(FULL + 1) + b"\x17"), RECORD_OVERFLOW),
        (b"\x17\x03\x03\0\x10" + bytes(16), BAD_RECORD_MAC),
        (b"\x17\x03\x03\0\x20" + bytes(32), BAD_RECORD_MAC),
        (record(b"data\x17", number=1), BAD_RECORD_MAC),
        (record(bytes(20)), UNEXPECTED_MESSAGE),  # no type
    ],
)
def test_what_a_peer_must_not_send(wire, alert):
    found, data, _ = open_all(Protection(SUITE, SECRET, 0), wire)
    assert (found.kind, data) == (-alert, b"")
    before = seal(Protection(SUITE, SECRET, 5), DATA, b"before")
    opener = Protection(SUITE, SECRET, 5)
    assert open_all(opener, before + b"\x14\x03\x03\0\1\1")[:2] == (
        Opened(len(before), 6, -UNEXPECTED_MESSAGE),
        b"before",
    )


def test_a_changed_bit_is_noticed_wherever_it_is():
    wire = seal(Protection(SUITE, SECRET, 0), DATA, b"data")
    for at in range(len(wire)):
        changed = bytearray(wire)
        changed[at] ^= 1
        found, data, _ = open_all(Protection(SUITE, SECRET, 0), bytes(changed))
        assert not data
        assert found.kind < 0 or found.lacks > 0  # a longer one is not there yet


def test_records_without_data_in_a_row_are_bounded():
    sealer, opener = Protection(SUITE, SECRET, 0), Protection(SUITE, SECRET, 0)
    for _ in range(3):
        wire = b"".join(seal(sealer, DATA, b"") for _ in range(32)) + seal(sealer, DATA, b"x")
        found, data, _ = open_all(opener, wire)
        assert (found.kind, data) == (DATA, b"x")
    wire = b"".join(seal(sealer, DATA, b"") for _ in range(33))
    assert open_all(opener, wire)[0].kind == -UNEXPECTED_MESSAGE


def test_there_must_be_room():
    with pytest.raises(ValueError, match="buffer"):
        Protection(SUITE, SECRET, 0).seal(memoryview(bytearray(20)), 0, DATA, b"", memoryview(b"data"))
