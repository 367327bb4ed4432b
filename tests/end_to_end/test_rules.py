"""Rules in a real client: what goes directly, what is blocked, what goes through lane, and SIGHUP."""

import hashlib
import re
import signal
import socket

import pytest

from lane.address import Address
from lane.testing.harness import until
from tests.support.origin import BIG, CONTENT, MB, Origin
from tests.support.processes import (
    DEADLINE,
    TRANSPORTS,
    connected,
    curl,
    echoes,
    http_connect,
    read_exactly,
    running_pair,
    sha256,
    socks5,
    start_client,
    start_server,
)
from tests.support.udp_applications import Associated, UdpServer

BLOCKED = 2
"""The reply of SOCKS5 for what the rules do not allow (RFC 1928 section 6)."""


@pytest.fixture(scope="module")
def near():
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def far():
    with Origin() as origin:
        yield origin


def seen(server, port):
    """Whether the server was asked for a connection to a port."""
    return f":{port} " in server.stderr


@pytest.mark.bulk
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_way(near, far, transport, tmp_path):
    rules = [f"direct localhost:{near.web}, direct 127.0.0.1:{near.digest}", f"block localhost:{near.echo}"]
    options = [f"--rule={rule}" for rule in rules]
    with running_pair(tmp_path, transport, client_options=options) as (server, client):
        for kind in ("socks5", "http"):
            url = f"http://localhost:{near.web}/[0-1]/{BIG}"
            curl(client.address, kind, url, "-o", tmp_path / "#1")
            whole = hashlib.sha256((tmp_path / "0").read_bytes() + (tmp_path / "1").read_bytes())
            assert whole.hexdigest() == sha256(CONTENT[:BIG] + CONTENT[1 : BIG + 1])
        with connected(client.address, near.digest) as sock:
            sock.sendall(CONTENT[:MB])
            sock.shutdown(socket.SHUT_WR)
            assert read_exactly(sock, 64).decode() == sha256(CONTENT[:MB])
        sock, code = socks5(client.address, "localhost", near.echo)
        sock.close()
        assert code == BLOCKED
        assert http_connect(client.address, f"localhost:{near.echo}") == 403
        assert curl(client.address, "socks5", f"http://localhost:{far.web}/7/{MB}") == CONTENT[7 : MB + 7]
        until(lambda: seen(server, far.web), server.describe)  # it says so when a session has ended
        assert not any(seen(server, port) for port in (near.web, near.digest, near.echo))
        assert f"localhost:{near.echo}: block, by the rule 'block localhost:{near.echo}'" in client.stderr
        server.kill()
        assert curl(client.address, "socks5", f"http://localhost:{near.web}/0/9") == CONTENT[:9]
        assert client.stop() == 0
        assert "Traceback" not in client.stderr + server.stderr


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_packets_go_the_way_of_their_targets(transport, tmp_path):
    rules = "--rule=direct 127.0.0.9, block 127.0.0.8"
    with (
        UdpServer() as through, UdpServer(host="127.0.0.9") as here, UdpServer(host="127.0.0.8") as blocked,
        running_pair(tmp_path, transport, ["--deny=127.0.0.9"], [rules]) as (server, client),
        Associated(client.address) as app,
    ):  # fmt: skip
        for _ in range(3):
            app.send(blocked.address, b"x")
            assert app.ask(here.address, b"not by the server") == (here.address, b"not by the server")
            assert app.ask(through.address, b"by the server") == (through.address, b"by the server")
        assert not blocked.peers
        assert here.peers.isdisjoint(through.peers)
        app.tcp.close()
        assert client.stop() == 0
        assert server.stop() == 0
        assert "Traceback" not in client.stderr + server.stderr


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_packets_that_go_directly_need_no_server(transport, tmp_path):
    """And where none may go directly, an application is told that there is no server."""
    with UdpServer() as target:
        with start_server(tmp_path / "server") as server:
            link = server.link
        forward = f"--forward=udp://127.0.0.1:0={Address(*target.address)}"
        with start_client(tmp_path, transport, link, "--no-check", "--rule=direct *", forward) as client:
            with Associated(client.address) as app:
                assert app.ask(target.address, b"directly") == (target.address, b"directly")
            port = int(client.wait_for(r"forwarding .*:(\d+) to .*")[1])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(DEADLINE)
                sock.sendto(b"forwarded", ("127.0.0.1", port))
                assert sock.recv(100) == b"forwarded"
        with (
            start_client(tmp_path, transport, link, "--no-check") as client,
            Associated(client.address) as app,
        ):
            assert app.code == 1


def code_of(client, port):
    """What an application is told that asks for localhost on a port."""
    sock, code = socks5(client.address, "localhost", port)
    sock.close()
    return code


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sighup_reads_the_file_again(near, transport, tmp_path):
    file = tmp_path / "rules"
    file.write_text("# nothing yet\n")
    with running_pair(tmp_path, transport, client_options=["--rules", file]) as (server, client):
        assert code_of(client, near.echo) == 0
        with connected(client.address, near.echo) as before:
            file.write_text(f"block localhost:{near.echo}  # now\n")
            client.process.send_signal(signal.SIGHUP)
            until(lambda: code_of(client, near.echo) == BLOCKED, client.describe)
            file.write_text(f"direct *\nblok localhost:{near.echo}\n")
            client.process.send_signal(signal.SIGHUP)
            until(lambda: "the rules stayed as before" in client.stderr, client.describe)
            assert re.search(rf"WARNING .*{file}:2: malformed rule 'blok localhost:", client.stderr)
            assert code_of(client, near.echo) == BLOCKED
            assert echoes(before)  # what is connected stays
            file.write_text("direct *\n")
            client.process.send_signal(signal.SIGHUP)
            until(lambda: code_of(client, near.echo) == 0, client.describe)
        assert client.stop() == 0
        assert server.stop() == 0
        assert "Traceback" not in client.stderr + server.stderr


def test_direct_connections_may_finish_when_the_client_stops(near, tmp_path):
    with (
        start_server(tmp_path / "s") as server,
        start_client(tmp_path / "c", "tls", server.link, "--rule=direct *") as client,
        connected(client.address, near.digest) as sock,
    ):
        sock.sendall(b"first")
        client.process.send_signal(signal.SIGTERM)

        def closed():
            with socket.socket() as probe:
                return probe.connect_ex(client.address) != 0

        until(closed, client.describe)
        sock.sendall(b"last")
        sock.shutdown(socket.SHUT_WR)
        assert read_exactly(sock, 64).decode() == sha256(b"firstlast")
        assert read_exactly(sock, 9) == b"firstlast"
        assert sock.recv(1) == b""
        sock.close()
        assert client.ended() == 0


def test_what_is_wrong_with_rules(run_lane, tmp_path):
    file = tmp_path / "rules"
    file.write_text("\ndirect a.example\nblock 10.0.0.1/8\n")
    for arguments, status, message in (
        (
            ["--rule", "allow x"],
            2,
            "--rule: malformed rule 'allow x': expected direct, block or lane, not 'allow'",
        ),
        (["--rules", file], 78, f"{file}:3: malformed rule '10.0.0.1/8': 10.0.0.1/8 has host bits set"),
        (["--rules", tmp_path / "none"], 78, f"cannot read {tmp_path / 'none'}: no such file"),
    ):
        result = run_lane("client", "--listen=127.0.0.1:0", *arguments)
        assert result.returncode == status
        assert result.stderr == f"lane: {message}\n"
        assert result.stdout == ""
