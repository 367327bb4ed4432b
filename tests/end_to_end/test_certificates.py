"""The operator's own certificate: the client verifies it against a CA, and for the name."""

import datetime
import re
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.origin import Origin
from tests.support.processes import TRANSPORTS, Lane, connected, echoes, start_server

NAME = "proxy.example.com"


def certificate(name, key, issuer, issuer_key, *extensions):
    """A certificate for a day."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def usage(**used):
    names = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment"]
    names += ["key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{name: used.get(name, False) for name in names})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a certificate of a CA's; `ca` and `other_ca` are files, `key` is that of the user."""
    folder = tmp_path_factory.mktemp("certificates")
    key, names = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    files = SimpleNamespace()
    for which in ("other_ca", "ca"):
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"test {which}")])
        ca = [(x509.BasicConstraints(True, None), True), (usage(key_cert_sign=True, crl_sign=True), True)]
        setattr(files, which, folder / which)
        getattr(files, which).write_bytes(certificate(ca_name, ca_key, ca_name, ca_key, *ca))
    leaf = [(x509.SubjectAlternativeName([x509.DNSName(NAME)]), True)]
    leaf += [(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False)]
    leaf += [(usage(digital_signature=True), True), (x509.BasicConstraints(False, None), True)]
    (folder / "cert").write_bytes(certificate(names, key, ca_name, ca_key, *leaf))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "cert-key").write_bytes(private)
    (folder / "cert-key").chmod(0o600)
    options = ["--cert", folder / "cert", "--cert-key", folder / "cert-key"]
    with start_server(folder, *options) as server:
        user = re.fullmatch("lane://([^@]+)@.*", server.link)[1]
        (folder / "key").write_text(f"{user}\n")
        (folder / "key").chmod(0o600)
        server.way = ["--server", "{}:{}".format(*server.address), "--key", f"@{folder / 'key'}"]
        server.ca, server.other_ca = files.ca, files.other_ca
        yield server


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_verified_by_a_ca(server, tmp_path, transport):
    options = [*server.way, "--ca", server.ca, "--server-name", NAME, "--transport", transport]
    with (
        Origin() as origin,
        Lane(tmp_path, "client", "--listen", "127.0.0.1:0", *options) as client,
        connected(client.ready().address, origin.echo) as sock,
    ):
        assert echoes(sock)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("ca", "name"), [("ca", "other.example.com"), ("ca", None), ("other_ca", NAME)], ids=repr
)
def test_not_the_name_or_not_the_ca(run_lane, server, transport, ca, name):
    options = [*server.way, "--ca", getattr(server, ca), "--transport", transport]
    options += ["--server-name", name] if name else []  # without it: the address, which is not in it
    result = run_lane("client", "--listen", "127.0.0.1:0", *options)
    assert result.returncode == 77
    assert re.fullmatch("lane: the server's certificate is not trusted: .*\n", result.stderr)


def test_the_link_pins_it_as_well(server, tmp_path):
    with Lane(tmp_path, "check", "--server", server.link) as check:
        assert check.ended() == 0, check.describe()
