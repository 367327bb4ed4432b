"""Certificates: the identity of a server, and how a client checks it.

A server without a configured certificate creates one, which clients pin. `lane.state` stores it. One value
ties a user's key to a certificate: the binding, the SHA-256 of the SubjectPublicKeyInfo. It stays the same
when a certificate is renewed with the same key.
"""

import datetime
import hmac
import ipaddress
import secrets
import ssl
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from lane.errors import ConfigError, Refused, TargetError
from lane.files import SECRET, read
from lane.net.names import normal_name
from lane.vouching import key_digest, vouched_by

MAX_FILE = 4 * 1024 * 1024  # the largest file that is read, bytes
MAX_CHAIN = 10  # the most certificates of a server that are checked
KNOWN = 64  # the most certificates whose binding is kept


@lru_cache(maxsize=KNOWN)  # a client asks at each handshake, most of the time with the same one
def binding_of(der: bytes) -> bytes:
    """SHA-256 of the certificate's SubjectPublicKeyInfo (DER, RFC 5280 section 4.1). Raises Refused."""
    try:
        return key_digest(x509.load_der_x509_certificate(der).public_key())
    except (ValueError, UnsupportedAlgorithm):
        raise Refused("the server's certificate is malformed") from None


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """A server's identity: see `lane.stream.ServerTLS`."""

    chain_pem: bytes
    """Certificates, leaf first."""
    key_pem: bytes = field(repr=False)
    """The leaf's private key, PKCS #8, unencrypted."""
    binding: bytes
    """SHA-256 of the leaf's SubjectPublicKeyInfo."""

    @classmethod
    def load(cls, cert_path: Path, key_path: Path) -> Self:
        """Read the operator's certificate chain and key (PEM). Raises ConfigError.

        A group may have read access to the key, as on a machine where several servers use it.
        """
        key = read(key_path, MAX_FILE, closed=SECRET)
        return cls._from_pem(read(cert_path, MAX_FILE), cert_path, key, key_path)

    @classmethod
    def parse(cls, pem: bytes, path: Path) -> Self:
        """Read the certificate and the key from the content of one file, `path`. Raises ConfigError."""
        return cls._from_pem(pem, path, pem, path)

    @classmethod
    def make(cls) -> Self:
        """A new identity that is not stored, for a server inside a client's process."""
        return cls.parse(new_identity(), Path())

    @classmethod
    def _from_pem(cls, chain: bytes, chain_path: Path, key: bytes, key_path: Path) -> Self:
        try:
            certificates = x509.load_pem_x509_certificates(chain)
            binding = key_digest(certificates[0].public_key())
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError(f"no certificate in {chain_path}") from None
        try:
            private = serialization.load_pem_private_key(key, password=None)
        except TypeError:
            raise ConfigError(f"the private key in {key_path} is encrypted") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError(f"no private key in {key_path}") from None
        if key_digest(private.public_key()) != binding:
            raise ConfigError(f"the key in {key_path} is not that of the first certificate in {chain_path}")
        return cls(
            b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates),
            private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            binding,
        )


def own_identity(cert: Path | None, key: Path | None) -> ServerIdentity | None:
    """The operator's identity, if one is configured. Raises ConfigError."""
    return None if cert is None or key is None else ServerIdentity.load(cert, key)


class PinnedTLS:
    """Accepts a server with the pinned public key, whoever signed it: see `lane.stream.ClientTLS`.

    It also accepts one for whose key the pinned one vouches: see `lane.vouching`.

    Raises ConfigError for an invalid `server_name`.
    """

    def __init__(self, pin: bytes, server_name: str | None = None) -> None:
        self.server_name = server_name and _server_name(server_name)
        self._pin = pin

    def verify(self, chain: list[bytes]) -> bytes:
        """Return the binding of the leaf, `chain[0]` (DER). Raises Refused if it differs from the pin."""
        if not chain:
            raise Refused("the server sent no certificate")
        binding = binding_of(chain[0])
        if not hmac.compare_digest(binding, self._pin) and not vouched_by(chain, self._pin):
            raise Refused("the server's certificate is not the pinned one")
        return binding


class VerifiedTLS:
    """Accepts a server whose certificate a CA signed for its name (RFC 5280, RFC 9525).

    See `lane.stream.ClientTLS`. `ca` is a PEM file with CAs; None for those of the system. Raises ConfigError
    if there are none, or if `server_name` is neither a host name nor an IP address.
    """

    def __init__(self, ca: Path | None, server_name: str) -> None:
        self.trust(ca)
        self._name = server_name
        try:
            self._subject: x509.IPAddress | x509.DNSName = x509.IPAddress(ipaddress.ip_address(server_name))
            self.server_name: str | None = None  # SNI allows no IP addresses (RFC 6066 section 3)
        except ValueError:
            try:
                self.server_name = _server_name(server_name)
                self._subject = x509.DNSName(self.server_name)
                self._policy.build_server_verifier(self._subject)
            except ValueError:
                raise ConfigError(f"{server_name!r} is no server name") from None

    def trust(self, ca: Path | None) -> None:
        """Use the CAs in `ca` from now on. If this raises ConfigError, the old CAs stay in use."""
        # The web's rules, without what self-made certificates often lack and X.509 does not require: a CA
        # without KeyUsage may sign (RFC 5280 section 4.2.1.3), and a key identifier is only a hint.
        self._policy = (
            PolicyBuilder()
            .store(Store(_authorities(ca)))
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca().may_be_present(
                    x509.KeyUsage, Criticality.AGNOSTIC, _may_sign
                ),
                ee_policy=ExtensionPolicy.webpki_defaults_ee().may_be_present(
                    x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None
                ),
            )
        )

    def verify(self, chain: list[bytes]) -> bytes:
        """Return the binding of the leaf, `chain[0]` (DER). Raises Refused if no CA has signed it."""
        try:
            leaf, *others = (x509.load_der_x509_certificate(der) for der in chain[:MAX_CHAIN])
            self._policy.build_server_verifier(self._subject).verify(leaf, others)
        except VerificationError as error:
            # This is the part of the library's message that helps a user.
            reason = str(error).removeprefix("validation failed: ").partition(" (encountered")[0]
            if reason.endswith("no interior errors"):
                reason = "no trusted CA signed it"
            # After these prefixes stands the fault of the CA that seems to have signed it.
            for prefix in ("candidates exhausted: ", "Python extension validator failed: ValueError: "):
                reason = reason.removeprefix(prefix)
            reason = _in_words(reason, leaf, chain=others, name=str(self._name))
            raise Refused(f"the server's certificate is not trusted: {reason}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise Refused("the server's certificate is missing or malformed") from None
        return key_digest(leaf.public_key())


def _in_words(reason: str, leaf: x509.Certificate, chain: list[x509.Certificate], name: str) -> str:
    """The library's `reason` for refusing a certificate in plain words, with a remedy."""
    now = datetime.datetime.now(datetime.UTC)
    for what, one in [("it", leaf), *(("a certificate that signed it", other) for other in chain)]:
        clock = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
        if now > one.not_valid_after_utc:
            return f"{what} expired on {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC ({clock})"
        if now < one.not_valid_before_utc:
            return f"{what} is valid only from {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC ({clock})"
    if "no matching subjectAltName" in reason:
        return f"it is not for {name} (--server-name names another)"
    if reason == "no trusted CA signed it":
        return f"{reason} (--ca FILE names the CA that did)"
    if "not valid at validation time" in reason:
        return f"the CA's certificate is not valid today ({now:%Y-%m-%d %H:%M} UTC)"
    return reason


def _server_name(text: str) -> str:
    """The name as SNI has it: ASCII, without a final dot (RFC 6066 section 3). Raises ConfigError."""
    try:
        return normal_name(text)
    except TargetError as error:
        raise ConfigError(f"{text!r} is no server name: {error}") from None


def _may_sign(_policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("its issuer may not sign certificates")


def new_identity() -> bytes:
    """A new P-256 key and its certificate (PEM). The certificate's name is random.

    One file has both, so that a certificate never meets another one's key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    host = f"host-{secrets.token_hex(4)}"
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)  # clocks differ
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def _authorities(ca: Path | None) -> list[x509.Certificate]:
    bundle = ca or ssl.get_default_verify_paths().cafile
    if bundle is None:
        raise ConfigError("this system has no CA bundle: name a file of CAs")
    end = b"-----END CERTIFICATE-----"
    found = []
    # Parse them one by one: a system's bundle may hold an invalid certificate, which is skipped.
    for block in read(Path(bundle), MAX_FILE).split(end)[:-1]:
        with warnings.catch_warnings(), suppress(ValueError, UnsupportedAlgorithm):
            warnings.simplefilter("ignore")
            found.append(x509.load_pem_x509_certificate(block + end))
    if not found:
        raise ConfigError(f"no certificate in {bundle}")
    return found
