"""Processes that are killed: what breaks is seen as broken, and what is left goes on by itself."""

import signal
import socket

import pytest

from lane.testing.harness import until
from tests.support.origin import CONTENT, MB, Origin, read_to_end
from tests.support.processes import (
    DEADLINE,
    TRANSPORTS,
    breaks,
    connected,
    echoes,
    read_exactly,
    running_pair,
    start_server,
    works,
)


@pytest.fixture
def origin():
    """One for each test: `lost` is of nobody else."""
    with Origin() as origin:
        yield origin


@pytest.fixture(params=TRANSPORTS)
def pair(request, tmp_path):
    with running_pair(tmp_path, request.param, ["--resume-grace", "1s"]) as pair:
        yield pair


def test_a_server_that_is_killed(pair, origin, tmp_path):
    server, client = pair
    with (
        connected(client.address, origin.endless) as download,
        connected(client.address, origin.digest) as upload,
        connected(client.address, origin.echo) as idle,
    ):
        assert echoes(idle)
        assert read_exactly(download, 5 * MB) == CONTENT[: 5 * MB]
        upload.sendall(CONTENT[:MB])
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        assert not works(client, origin)
        with start_server(tmp_path / "server", listen="{}:{}".format(*server.address)) as second:
            for sock in (download, upload, idle):
                breaks(sock)
            until(lambda: works(client, origin), client.describe)
            assert second.link == server.link
    assert client.process.poll() is None
    assert "Traceback" not in client.stderr


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_is_killed_for_good(tmp_path, transport, origin):
    with (
        running_pair(tmp_path, transport, [], ["--resume-grace", "2s"]) as (server, client),
        connected(client.address, origin.endless) as download,
        connected(client.address, origin.echo) as idle,
    ):
        assert echoes(idle)
        assert read_exactly(download, 5 * MB) == CONTENT[: 5 * MB]
        server.kill()
        for sock in (download, idle):
            breaks(sock)


def test_a_server_that_restarts_between_two_connections(pair, origin, tmp_path):
    server, client = pair
    assert works(client, origin)
    server.kill()
    with start_server(tmp_path / "server", listen="{}:{}".format(*server.address)):
        # The client has heard nothing of it, and must not give the application what is left of the first.
        until(lambda: works(client, origin), client.describe)


def test_a_server_that_is_killed_leaves_no_end_of_data_to_the_target(pair):
    server, client = pair
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        connected(client.address, listener.getsockname()[1]) as upload,
    ):
        target, _ = listener.accept()
        with target:
            upload.sendall(CONTENT[:1000])
            target.settimeout(DEADLINE)
            assert read_exactly(target, 1000) == CONTENT[:1000]
            server.kill()
            with pytest.raises(ConnectionError):  # otherwise a part of a file would pass for all of it
                read_to_end(target)


def test_a_client_that_is_killed_leaves_no_end_of_data_to_applications(pair, origin):
    _, client = pair
    with (
        connected(client.address, origin.echo) as sock,
        socket.create_connection(client.address, DEADLINE) as asking,
    ):
        assert echoes(sock)
        asking.sendall(b"\x05\x01\x00")
        assert read_exactly(asking, 2) == b"\x05\x00"
        client.kill()
        breaks(sock)
        breaks(asking)


def test_a_client_that_is_killed(pair, origin):
    server, client = pair
    with connected(client.address, origin.endless) as download:
        read_exactly(download, MB)
        client.kill()
        # TLS: at once. QUIC: when the server has heard nothing for its idle time-out.
        assert origin.lost.wait(DEADLINE), server.describe()
    assert "Traceback" not in server.stderr


def test_an_application_that_is_gone_frees_the_target(pair, origin):
    _, client = pair
    sock = connected(client.address, origin.endless)
    read_exactly(sock, MB)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    assert origin.lost.wait(DEADLINE), client.describe()
