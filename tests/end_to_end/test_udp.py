"""UDP through real lane processes over both transports: packets of all sizes, real protocols, and limits."""

import datetime
import os
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lane.testing.harness import until
from tests.support.processes import DEADLINE, TRANSPORTS, running_pair, sha256
from tests.support.udp_applications import Associated, Http3Server, UdpServer, answer_dns, http3_get


@pytest.fixture(scope="module", params=TRANSPORTS)
def proxy(request, tmp_path_factory):
    options = ("--allow", "::1", "--deny", "127.0.0.9")
    with running_pair(tmp_path_factory.mktemp("udp"), request.param, options) as (_, client):
        yield client.address


@pytest.mark.parametrize("size", [0, 1, 500, 1100, 1300, 1452, 9000, 65000])
def test_packets_of_all_sizes_come_back_whole(proxy, size):
    with UdpServer() as target, Associated(proxy) as app:
        payload = os.urandom(size)
        for _ in range(3):
            assert app.ask(target.address, payload) == (target.address, payload)


def test_targets_by_name_and_over_ipv6(proxy):
    with UdpServer(host="127.0.0.1") as four, Associated(proxy) as app:
        assert app.ask(("localhost", four.address[1]), b"by name")[1] == b"by name"
    with UdpServer(host="::1") as six, Associated(proxy) as app:
        assert app.ask(six.address, b"over six") == (six.address, b"over six")


def test_the_servers_rules_hold_for_every_packet(proxy):
    with UdpServer() as target, UdpServer(host="127.0.0.9") as denied, Associated(proxy) as app:
        for _ in range(3):
            app.send(denied.address, b"let me in")
            assert app.ask(target.address, b"x")[1] == b"x"
    assert not denied.peers


def test_one_association_reaches_many_targets_each_from_the_same_port(proxy):
    targets = [UdpServer() for _ in range(20)]
    with Associated(proxy) as app:
        for target in targets:
            with target:
                assert app.ask(target.address, b"x") == (target.address, b"x")
    peers = {peer for target in targets for peer in target.peers}
    assert len(peers) == 1


def test_http3_through_it(proxy, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "cert").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    content = os.urandom(300_000)
    with Http3Server(content, tmp_path / "cert", tmp_path / "key") as web, Associated(proxy) as app:
        assert sha256(http3_get(app, web.address, tmp_path / "cert")) == sha256(content)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_dig_through_a_forward(tmp_path, transport):
    if not shutil.which("dig"):
        pytest.skip("dig is not installed (dnsutils)")
    with UdpServer(answer_dns) as names:
        forward = f"udp://127.0.0.1:0={names.address[0]}:{names.address[1]}"
        with running_pair(tmp_path, transport, client_options=("--forward", forward)) as (_, client):
            port = client.wait_for(r"forwarding 127.0.0.1:(\d+) to .*")[1]
            command = ["dig", "+short", "+tries=10", "+time=1", "@127.0.0.1", "-p", port, "lane.test"]
            for _ in range(3):
                assert (
                    subprocess.run(command, capture_output=True, timeout=30, check=True).stdout
                    == b"192.0.2.7\n"
                )


def test_a_steady_stream_arrives(proxy):
    """Never more is under way than the smallest queue holds (32 KB), so that nothing has to be lost."""
    with UdpServer() as target, Associated(proxy) as app:
        app.ask(target.address, b"first")
        app.udp.settimeout(DEADLINE)
        for burst in range(100):
            sent = [bytes((burst, number)) + bytes(1198) for number in range(20)]
            for payload in sent:
                app.send(target.address, payload)
            assert sorted(app.recv()[1] for _ in sent) == sent


def test_an_association_frees_what_it_held(proxy):
    with UdpServer() as target:
        with Associated(proxy) as app:
            app.ask(target.address, b"x")
        (peer,) = target.peers

        def refused():
            target.sock.sendto(b"late", peer)
            with open("/proc/net/udp", encoding="ascii") as table:
                return f":{peer[1]:04X} " not in table.read()

        until(refused, lambda: "the server keeps the socket")
