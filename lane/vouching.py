"""A server's new certificate, for which the key of the one before vouches.

A link pins the public key of its server's certificate. When the key changes, the server shows for a while two
certificates behind its own: one for the new key that the previous key has signed, and the previous one. A
client that has pinned the previous key follows that signature (a cross-certificate, RFC 5280 section 3.2).
"""

import datetime
import hashlib
import hmac
from contextlib import suppress
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MOST = 10
"""The most certificates of a chain that are looked at."""


def key_digest(key: Any) -> bytes:
    """SHA-256 of a public key's SubjectPublicKeyInfo (DER, RFC 5280 section 4.1)."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def vouch(before_pem: bytes, before_key: bytes, found_pem: bytes, seconds: float) -> bytes:
    """The certificates (PEM) by which the key of one certificate vouches for another's for some time.

    `before_pem` and `found_pem` are chains, leaf first. Raises ValueError for a key that can't sign.
    """
    before, found = (x509.load_pem_x509_certificate(pem) for pem in (before_pem, found_pem))
    key: Any = serialization.load_pem_private_key(before_key, password=None)
    now = datetime.datetime.now(datetime.UTC)
    cross = (
        x509.CertificateBuilder()
        .subject_name(found.subject)
        .issuer_name(before.subject)
        .public_key(found.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(seconds=seconds))
        .sign(
            key, hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None
        )
    )
    return cross.public_bytes(Encoding.PEM) + before.public_bytes(Encoding.PEM)


def still_vouches(pem: bytes, leaf_pem: bytes) -> bool:
    """Whether what `vouch` gave is for the leaf of this chain, and still in time. False for what is none."""
    with suppress(ValueError, UnsupportedAlgorithm):
        cross, leaf = (x509.load_pem_x509_certificate(one) for one in (pem, leaf_pem))
        return key_digest(cross.public_key()) == key_digest(leaf.public_key()) and _in_time(cross)
    return False


def vouched_by(chain: list[bytes], pin: bytes) -> bool:
    """Whether the key with the digest `pin` vouches for the leaf of a chain (DER, leaf first)."""
    try:
        leaf, *others = (x509.load_der_x509_certificate(der) for der in chain[:MOST])
        digest = key_digest(leaf.public_key())
        for voucher in others:
            if not hmac.compare_digest(key_digest(voucher.public_key()), pin):
                continue
            for cross in others:
                if key_digest(cross.public_key()) == digest and _in_time(cross):
                    with suppress(InvalidSignature, ValueError, TypeError):
                        cross.verify_directly_issued_by(voucher)
                        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return False


def _in_time(one: x509.Certificate) -> bool:
    now = datetime.datetime.now(datetime.UTC)
    return one.not_valid_before_utc <= now <= one.not_valid_after_utc
