"""Certificates for tests of transports. They are in memory, valid for an hour and pinned by the client."""

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lane.certs import binding_of
from lane.errors import Refused

SERVER_NAME = "server.test"


@dataclass(slots=True)
class SelfSigned:
    """A `lane.stream.ServerTLS`."""

    chain_pem: bytes
    key_pem: bytes
    binding: bytes


@dataclass(slots=True)
class PinnedClient:
    """A `lane.stream.ClientTLS` that accepts only one key."""

    pin: bytes
    server_name: str | None = SERVER_NAME

    def verify(self, chain: list[bytes]) -> bytes:
        """Return the binding. Raises Refused if the leaf's key is not the pinned one, or without a leaf."""
        found = binding_of(chain[0]) if chain else b""
        if found != self.pin:
            raise Refused("the server's certificate is not the pinned one")
        return found


def server_tls() -> SelfSigned:
    """A fresh self-signed P-256 certificate for `SERVER_NAME`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, SERVER_NAME)])
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return SelfSigned(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        binding_of(certificate.public_bytes(Encoding.DER)),
    )


def client_tls(server: SelfSigned) -> PinnedClient:
    """A client that pins the key of `server`."""
    return PinnedClient(server.binding)
