"""A key vouches for the next one, for some time, and no other key can."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lane.certs import PinnedTLS, ServerIdentity
from lane.errors import Refused
from lane.vouching import still_vouches, vouch, vouched_by

DAY = 86400.0


def ders(pem):
    return [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem)]


@pytest.fixture(scope="module")
def three():
    return [ServerIdentity.make() for _ in range(3)]


def voucher(before, found, seconds=DAY):
    return vouch(before.chain_pem, before.key_pem, found.chain_pem, seconds)


def test_a_client_with_the_previous_pin_accepts_the_new_key(three):
    before, found, _ = three
    chain = ders(found.chain_pem + voucher(before, found))
    assert PinnedTLS(before.binding).verify(chain) == found.binding
    assert PinnedTLS(found.binding).verify(chain) == found.binding


def test_no_other_key_can_vouch(three):
    before, found, other = three
    good = voucher(before, found)
    for chain in (
        found.chain_pem,
        found.chain_pem + before.chain_pem,  # anybody has that one
        found.chain_pem + voucher(other, found) + before.chain_pem,
        other.chain_pem + good,  # for another key
        found.chain_pem + voucher(before, found, -1.0),  # too late
    ):
        with pytest.raises(Refused, match="is not the pinned one"):
            PinnedTLS(before.binding).verify(ders(chain))
    assert not vouched_by([*ders(found.chain_pem), b"garbage"], before.binding)


def test_what_vouches_is_known_for_its_leaf_and_its_time(three):
    before, found, other = three
    assert still_vouches(voucher(before, found), found.chain_pem)
    assert not still_vouches(voucher(before, found), other.chain_pem)
    assert not still_vouches(voucher(before, found, -1.0), found.chain_pem)
    assert not still_vouches(b"garbage", found.chain_pem)
