"""How lane ends: at once with nothing open, with time for sessions to finish, and at once when told twice."""

import signal
import socket

import pytest

from lane.testing.harness import until
from tests.support.origin import read_to_end
from tests.support.processes import TRANSPORTS, connected, echoes, read_exactly, running_pair, socks5

LONG = ("--grace", "1h")
"""Whoever waited for all of it would not end in the time of a test."""


def refuses(client):
    """Whether the client takes no connections any more."""
    try:
        socket.create_connection(client.address).close()
    except ConnectionRefusedError:
        return True
    return False


def says_failure(client, port):
    """Whether the client answers new requests with a general failure."""
    sock, code = socks5(client.address, "127.0.0.1", port)
    sock.close()
    return code == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_with_nothing_open_it_ends_at_once(tmp_path, origin, transport, number):
    with running_pair(tmp_path, transport, LONG, LONG) as (server, client):
        with connected(client.address, origin.digest) as sock:
            sock.shutdown(socket.SHUT_WR)
            assert len(read_to_end(sock)) == 64
        with socket.create_connection(client.address):  # an application that asks for nothing holds up nobody
            assert client.stop(number) == 0
        assert server.stop(number) == 0
        assert "Traceback" not in client.stderr + server.stderr


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_without_its_client_ends_at_once(tmp_path, transport):
    with running_pair(tmp_path, transport, LONG) as (server, client):
        client.kill()
        assert server.stop() == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_session_may_finish_on_the_client(tmp_path, origin, transport):
    with running_pair(tmp_path, transport, client_options=LONG) as (_, client):
        with connected(client.address, origin.echo) as sock:
            client.process.send_signal(signal.SIGTERM)
            until(lambda: refuses(client), client.describe)
            assert echoes(sock)
            sock.shutdown(socket.SHUT_WR)
            assert read_to_end(sock) == b""
        assert client.ended() == 0
        assert "Traceback" not in client.stderr


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_session_may_finish_on_the_server(tmp_path, origin, transport):
    with running_pair(tmp_path, transport, LONG) as (server, client):
        with connected(client.address, origin.echo) as sock:
            server.process.send_signal(signal.SIGTERM)
            until(lambda: says_failure(client, origin.echo), server.describe)
            assert echoes(sock)
            sock.shutdown(socket.SHUT_WR)
            assert read_to_end(sock) == b""
        assert server.ended() == 0
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize("grace", ["0s", "500ms"])
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_session_that_does_not_finish_is_reset(tmp_path, transport, side, grace):
    options = {f"{side}_options": ("--grace", grace)}
    with (
        running_pair(tmp_path, transport, **options) as (server, client),
        socket.create_server(("127.0.0.1", 0)) as listener,
        connected(client.address, listener.getsockname()[1]) as sock,
    ):
        listener.settimeout(30)
        target, _ = listener.accept()
        with target:
            target.settimeout(30)
            target.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"
            ending = client if side == "client" else server
            ending.process.send_signal(signal.SIGTERM)
            # Neither the application nor the target may take it for the end of data.
            for end in (sock, target):
                with pytest.raises(ConnectionError):
                    read_to_end(end)
            assert ending.ended() == 0
            assert "Traceback" not in client.stderr + server.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_second_signal_ends_it_at_once(tmp_path, origin, side, number):
    with (
        running_pair(tmp_path, "tls", LONG, [*LONG, "--resume-grace", "1s"]) as (server, client),
        connected(client.address, origin.echo) as sock,
    ):
        ending = client if side == "client" else server
        ending.process.send_signal(number)
        if side == "client":
            until(lambda: refuses(client), client.describe)
        else:
            until(lambda: says_failure(client, origin.echo), server.describe)
        assert echoes(sock)
        assert ending.stop(number) == 128 + number
        with pytest.raises(ConnectionError):
            read_to_end(sock)
