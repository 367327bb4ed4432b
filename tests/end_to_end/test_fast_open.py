"""Fast open and `--via` as their users see them: real processes, over every transport that can."""

import socket

import pytest

from tests.support.origin import CONTENT, MB, read_to_end
from tests.support.processes import (
    DEADLINE,
    TRANSPORTS,
    connected,
    curl,
    echoes,
    running_pair,
    sha256,
    socks5,
    start_client,
)

REFUSED = 5


def target_that_goes():
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


def is_reset(sock):
    sock.settimeout(DEADLINE)
    with sock, pytest.raises(ConnectionResetError):
        while sock.recv(100):
            pass
    return True


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_truthful_at_first_trusting_afterwards(tmp_path, transport):
    with running_pair(tmp_path, transport) as (_, client):
        listener, port = target_that_goes()
        with listener, connected(client.address, port):
            listener.accept()[0].close()
        sock, code = socks5(client.address, "127.0.0.1", port)
        assert code == 0  # it was there a moment ago
        assert is_reset(sock)  # but a failure is no end of data
        sock, code = socks5(client.address, "127.0.0.1", port)
        sock.close()
        assert code == REFUSED


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ["on", "off"])
def test_always_or_never(tmp_path, origin, transport, mode):
    with running_pair(tmp_path, transport, client_options=("--fast-open", mode)) as (_, client):
        listener, port = target_that_goes()
        listener.close()
        for _ in range(2):
            sock, code = socks5(client.address, "127.0.0.1", port)
            assert code == (0 if mode == "on" else REFUSED)
            assert mode == "off" or is_reset(sock)
            sock.close()
        for _ in range(2):
            with connected(client.address, origin.echo) as sock:
                assert echoes(sock, CONTENT[:100_000])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_uploads_that_begin_before_the_reply(tmp_path, origin, transport):
    """More than may go before the REPLY, and half-close."""
    with running_pair(tmp_path, transport) as (_, client):
        for size in (1, 16_384, 16_385, 5 * MB):
            with connected(client.address, origin.digest) as sock:
                sock.sendall(CONTENT[:size])
                sock.shutdown(socket.SHUT_WR)
                expected = sha256(CONTENT[:size]).encode() + CONTENT[:size]
                assert read_to_end(sock) == expected


@pytest.mark.parametrize("scheme", ["socks5", "http"])
def test_through_another_proxy(tmp_path, origin, scheme):
    """The other proxy is a lane too, with a password; the name of the server is for it to resolve."""
    with running_pair(tmp_path, "tls", client_options=("--auth", "me:pass")) as (server, other):
        host, port = other.address
        link = server.link.replace("@127.0.0.1:", "@localhost:")
        via = f"{scheme}://me:pass@{host}:{port}"
        with start_client(tmp_path / "inner", "tls", link, "--via", via) as client:
            data = curl(client.address, "socks5", f"http://127.0.0.1:{origin.web}/0/{MB}")
            assert data == CONTENT[:MB]
            assert "Traceback" not in client.stderr
