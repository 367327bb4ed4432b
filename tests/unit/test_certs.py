"""Certificates and pins: what is made, kept, believed and refused."""

import datetime
import hashlib
import os
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from lane import certs
from lane.certs import PinnedTLS, ServerIdentity, VerifiedTLS, binding_of
from lane.errors import ConfigError, Refused

DAY = datetime.timedelta(days=1)


def name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class Signed:
    """A certificate and its key, signed by `issuer` or by itself."""

    def __init__(
        self,
        subject,
        issuer=None,
        *,
        ca=False,
        names=(),
        start=-DAY,
        end=10 * DAY,
        key=None,
        signs=True,
        identified=True,
    ):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = name(subject)
        now = datetime.datetime.now(datetime.UTC)
        above = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(above.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + start)
            .not_valid_after(now + end)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if identified:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        if ca:
            own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
            builder = builder.add_extension(own, critical=False)
            if signs is not None:  # None: does not say what it may be used for
                usage = x509.KeyUsage(False, False, False, False, False, signs, True, False, False)
                builder = builder.add_extension(usage, critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self.certificate = builder.sign(above.key, hashes.SHA256())
        self.der = self.certificate.public_bytes(Encoding.DER)
        self.pem = self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, encryption=None):
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())

    @property
    def binding(self):
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).digest()


@pytest.fixture(scope="module")
def root():
    return Signed("root", ca=True)


@pytest.fixture(scope="module")
def leaf(root):
    address = x509.IPAddress(certs.ipaddress.ip_address("192.0.2.1"))
    return Signed("leaf", root, names=[x509.DNSName("a.test"), x509.DNSName("xn--bcher-kva.test"), address])


@pytest.fixture
def ca_file(root, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(b"# a comment\n" + root.pem)
    return path


def files(tmp_path, cert, key):
    (tmp_path / "c.pem").write_bytes(cert)
    (tmp_path / "k.pem").write_bytes(key)
    (tmp_path / "k.pem").chmod(0o600)
    return tmp_path / "c.pem", tmp_path / "k.pem"


def test_the_binding_is_that_of_the_public_key(leaf):
    assert binding_of(leaf.der) == leaf.binding


@pytest.mark.parametrize("der", [b"", b"garbage", b"\x30\x82\xff\xff"])
def test_a_malformed_certificate_is_refused(der):
    with pytest.raises(Refused, match="malformed"):
        binding_of(der)
    with pytest.raises(Refused, match="malformed"):
        PinnedTLS(bytes(32)).verify([der])


def test_an_identity_is_loaded_with_its_whole_chain(tmp_path, root):
    middle = Signed("middle", root, ca=True)
    leaf = Signed("leaf", middle, key=rsa.generate_private_key(65537, 2048))
    identity = ServerIdentity.load(*files(tmp_path, leaf.pem + middle.pem, leaf.key_pem()))
    assert identity.binding == leaf.binding
    assert identity.chain_pem == leaf.pem + middle.pem
    assert "PRIVATE" not in repr(identity)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "c2").write_bytes(identity.chain_pem)
    (tmp_path / "k2").write_bytes(identity.key_pem)
    context.load_cert_chain(tmp_path / "c2", tmp_path / "k2")


def test_what_is_wrong_with_an_identity_is_said_in_one_line(tmp_path, leaf, monkeypatch):
    def says(text, cert, key):
        with pytest.raises(ConfigError, match=text) as caught:
            ServerIdentity.load(*files(tmp_path, cert, key))
        assert "\n" not in str(caught.value)

    says("no certificate in .*c.pem", b"garbage", leaf.key_pem())
    says("no certificate in .*c.pem", b"", leaf.key_pem())
    says("no private key in .*k.pem", leaf.pem, b"garbage")
    says("no private key in .*k.pem", leaf.pem, leaf.pem)
    says("k.pem is encrypted", leaf.pem, leaf.key_pem(BestAvailableEncryption(b"secret")))
    says("k.pem is not that of the first certificate", leaf.pem, Signed("other").key_pem())
    with pytest.raises(ConfigError, match=r"cannot read .*none: No such file"):
        ServerIdentity.load(tmp_path / "none", tmp_path / "none")
    with pytest.raises(ConfigError, match=r"cannot read .*directory"):
        ServerIdentity.load(tmp_path, tmp_path)
    monkeypatch.setattr(certs, "MAX_FILE", 10)
    says("larger than 10 bytes", leaf.pem, leaf.key_pem())


def test_a_new_identity():
    first = ServerIdentity.make()
    certificate = x509.load_pem_x509_certificate(first.chain_pem)
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc < now - DAY / 2
    assert certificate.not_valid_after_utc > now + 3600 * DAY
    der = certificate.public_bytes(Encoding.DER)
    assert PinnedTLS(first.binding).verify([der]) == first.binding


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620])
def test_a_private_key_that_others_may_read_is_refused(tmp_path, leaf, mode):
    cert, key = files(tmp_path, leaf.pem, leaf.key_pem())
    key.chmod(mode)
    with pytest.raises(ConfigError, match=r"k\.pem: refused, since others may (read|write to) it"):
        ServerIdentity.load(cert, key)
    key.chmod(0o640)  # of a group that the operator chose
    assert ServerIdentity.load(cert, key).binding == leaf.binding


def test_an_identity_that_nothing_keeps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = ServerIdentity.make(), ServerIdentity.make()
    assert one.binding != other.binding
    assert binding_of(x509.load_pem_x509_certificate(one.chain_pem).public_bytes(Encoding.DER)) == one.binding
    assert os.listdir(tmp_path) == []


def test_a_pin_is_believed_for_its_key_only(leaf):
    assert PinnedTLS(leaf.binding).verify([leaf.der, b"whatever"]) == leaf.binding
    renewed = Signed("renewed", key=leaf.key, start=-3 * DAY, end=-DAY)
    assert PinnedTLS(leaf.binding).verify([renewed.der]) == leaf.binding
    with pytest.raises(Refused, match="is not the pinned one"):
        PinnedTLS(leaf.binding).verify([Signed("other").der, leaf.der])
    with pytest.raises(Refused, match="no certificate"):
        PinnedTLS(leaf.binding).verify([])
    assert PinnedTLS(leaf.binding).server_name is None


@pytest.mark.parametrize(
    ("name", "sni"), [("a.test", "a.test"), ("Straße.test.", "xn--strae-oqa.test"), ("a_b.test", "a_b.test")]
)
def test_a_server_name_is_sent_as_sni_has_it(name, sni):
    assert PinnedTLS(bytes(32), name).server_name == sni


@pytest.mark.parametrize(
    ("server", "sni"),
    [("a.test", "a.test"), ("A.test.", "a.test"), ("bücher.test", "xn--bcher-kva.test"), ("192.0.2.1", None)],
)
def test_a_ca_vouches_for_names_and_addresses(ca_file, leaf, server, sni):
    tls = VerifiedTLS(ca_file, server)
    assert tls.server_name == sni
    assert tls.verify([leaf.der]) == leaf.binding


@pytest.mark.parametrize("server", ["b.test", "sub.a.test", "192.0.2.2"])
def test_a_wrong_name_is_not_trusted(ca_file, leaf, server):
    with pytest.raises(
        Refused, match=rf"not trusted: it is not for {server} \(--server-name names another\)$"
    ):
        VerifiedTLS(ca_file, server).verify([leaf.der])


def test_what_a_ca_does_not_vouch_for(ca_file, root, leaf):
    tls = VerifiedTLS(ca_file, "a.test")
    names = [x509.DNSName("a.test")]
    clock = r" on \d{4}-\d\d-\d\d \d\d:\d\d UTC \(this machine's clock says \d{4}-.* UTC\)$"
    with pytest.raises(Refused, match=f"not trusted: it expired{clock}"):
        tls.verify([Signed("old", root, names=names, start=-3 * DAY, end=-DAY).der])
    with pytest.raises(Refused, match=f"not trusted: it is valid only from{clock[3:]}"):
        tls.verify([Signed("new", root, names=names, start=DAY, end=2 * DAY).der])
    for stranger in (Signed("self", names=names), Signed("x", Signed("root", ca=True), names=names)):
        with pytest.raises(Refused, match="not trusted: ") as caught:
            tls.verify([stranger.der])
        assert "\n" not in str(caught.value)
    with pytest.raises(Refused, match=r"no trusted CA signed it \(--ca FILE names the CA that did\)$"):
        tls.verify([Signed("y", Signed("another root", ca=True), names=names).der])
    for chain in ([], [b"garbage"], [leaf.der, b"garbage"]):
        with pytest.raises(Refused, match="missing or malformed"):
            tls.verify(chain)


def test_a_home_made_ca_is_as_good(tmp_path):
    root = Signed("root", ca=True, signs=None)
    leaf = Signed("leaf", root, names=[x509.DNSName("a.test")], identified=False)
    (tmp_path / "ca.pem").write_bytes(root.pem)
    assert VerifiedTLS(tmp_path / "ca.pem", "a.test").verify([leaf.der]) == leaf.binding
    with pytest.raises(Refused, match=r"it is not for b\.test"):
        VerifiedTLS(tmp_path / "ca.pem", "b.test").verify([leaf.der])


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ({"ca": True, "signs": False}, "its issuer may not sign certificates"),
        ({"ca": True, "end": -DAY / 2}, r"the CA's certificate is not valid today \(.* UTC\)"),
        ({"ca": False}, "basicConstraints.cA must be asserted in a CA certificate"),
    ],
)
def test_what_is_wrong_with_a_ca_is_said(tmp_path, root, message):
    ca = Signed("root", **root)
    leaf = Signed("leaf", ca, names=[x509.DNSName("a.test")])
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    with pytest.raises(Refused, match=f"^the server's certificate is not trusted: {message}$"):
        VerifiedTLS(tmp_path / "ca.pem", "a.test").verify([leaf.der])


def test_an_intermediate_is_needed_and_used(ca_file, root):
    middle = Signed("middle", root, ca=True)
    leaf = Signed("leaf", middle, names=[x509.DNSName("a.test")])
    assert VerifiedTLS(ca_file, "a.test").verify([leaf.der, middle.der]) == leaf.binding
    with pytest.raises(Refused, match="no trusted CA signed it"):
        VerifiedTLS(ca_file, "a.test").verify([leaf.der])


def test_the_systems_bundle_is_the_default(ca_file, leaf, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert VerifiedTLS(None, "a.test").verify([leaf.der]) == leaf.binding
    damaged = b"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
    ca_file.write_bytes(damaged + ca_file.read_bytes())
    assert VerifiedTLS(None, "a.test").verify([leaf.der]) == leaf.binding
    nothing = ssl.get_default_verify_paths()._replace(cafile=None)
    monkeypatch.setattr(certs.ssl, "get_default_verify_paths", lambda: nothing)
    with pytest.raises(ConfigError, match="no CA bundle"):
        VerifiedTLS(None, "a.test")


@pytest.mark.parametrize("server", ["", "bad name!", "a..b", "*.a.test", "x" * 64])
def test_what_is_no_server_name(ca_file, server):
    with pytest.raises(ConfigError, match="is no server name"):
        VerifiedTLS(ca_file, server)


@pytest.mark.parametrize("server", ["bad name!", "a..b", "x" * 64, "\u00ad.test"])
def test_what_is_no_server_name_is_not_pinned_either(server):
    with pytest.raises(ConfigError, match="is no server name: not a host name"):
        PinnedTLS(bytes(32), server)


def test_a_ca_file_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none"):
        VerifiedTLS(tmp_path / "none", "a.test")
    (tmp_path / "empty").write_text("nothing here")
    with pytest.raises(ConfigError, match=r"no certificate in .*empty"):
        VerifiedTLS(tmp_path / "empty", "a.test")
