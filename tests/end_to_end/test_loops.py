"""What would lead lane into itself, round and round, is refused at once."""

import os
import socket

import pytest

from lane.testing.harness import until
from tests.support.inbound import is_reset
from tests.support.processes import http_connect, socks5, start_client

NOT_ALLOWED = 2


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def descriptors(lane):
    return len(os.listdir(f"/proc/{lane.process.pid}/fd"))


@pytest.mark.parametrize("ways", [["--rule", "direct *"], []], ids=["direct", "embedded"])
def test_a_forward_to_itself(tmp_path, ways):
    one, other = free_port(), free_port()
    here, there = f"127.0.0.1:{one}", f"127.0.0.1:{other}"
    options = [f"--forward=tcp://{here}={here},tcp://{there}=localhost:{other}", "--max-sessions=100", *ways]
    with start_client(tmp_path, "tls", "embedded", *options) as client:
        before = descriptors(client)
        assert is_reset(("127.0.0.1", one))
        assert is_reset(("127.0.0.1", other))
        for target in (here, f"localhost:{other}"):
            said = f"{target}: not allowed: lane itself listens there"
            until(lambda said=said: said in client.stderr, client.describe)
        until(lambda: descriptors(client) <= before + 4, client.describe)  # carriers may be kept


@pytest.mark.parametrize("ways", [["--rule", "direct *"], []], ids=["direct", "embedded"])
def test_the_proxy_port_through_itself(tmp_path, ways):
    with start_client(tmp_path, "tls", "embedded", *ways) as client:
        for host in ("127.0.0.1", "localhost", "0.0.0.0"):
            sock, code = socks5(client.address, host, client.address[1])
            sock.close()
            assert code == NOT_ALLOWED, host
        assert http_connect(client.address, f"127.0.0.1:{client.address[1]}") == 403


@pytest.mark.parametrize("ways", [["--rule", "direct *"], []], ids=["direct", "embedded"])
def test_packets_to_itself(tmp_path, ways):
    port = free_port(socket.SOCK_DGRAM)
    where = f"127.0.0.1:{port}"
    with start_client(tmp_path, "tls", "embedded", "--forward", f"udp://{where}={where}", *ways) as client:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"round and round", ("127.0.0.1", port))
            said = "not allowed: lane itself listens there"
            until(lambda: said in client.stderr, client.describe)
        assert client.stderr.count(said) == 1


def test_a_reverse_forward_to_itself(tmp_path):
    port, forward = free_port(), free_port()
    here, there = f"127.0.0.1:{port}", f"127.0.0.1:{forward}"
    with start_client(tmp_path, "tls", "embedded", "--reverse", f"tcp://{here}={here}") as client:
        until(lambda: f"-> {here}" in client.stderr, client.describe)
        assert is_reset(("127.0.0.1", port))
        until(lambda: "not allowed: lane itself listens there" in client.stderr, client.describe)
    # Through a forward, and back by a reverse forward.
    options = [f"--reverse=tcp://{here}={there}", f"--forward=tcp://{there}={here}"]
    with start_client(tmp_path, "tls", "embedded", *options) as client:
        until(lambda: f"-> {there}" in client.stderr, client.describe)
        assert is_reset(("127.0.0.1", forward))
        until(lambda: "not allowed: lane itself listens there" in client.stderr, client.describe)
