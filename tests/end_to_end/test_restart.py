"""A restart under a service manager with a descriptor store: the sessions go on."""

import time
from contextlib import ExitStack, contextmanager, suppress

import pytest

from lane.testing.harness import until
from tests.support.origin import CONTENT, MB
from tests.support.processes import (
    Lane,
    breaks,
    connected,
    echoes,
    link_of,
    read_exactly,
    start_client,
    start_server,
    works,
)
from tests.support.service_manager import ServiceManager
from tests.support.udp_applications import Associated, UdpServer
from tests.support.workers import on_linux, status

pytestmark = on_linux


@pytest.fixture
def manager(tmp_path):
    """A service manager, and a function that starts the server under it."""
    found = ServiceManager(tmp_path)
    yield found
    found.close()


def under(manager):
    """How a process is started there."""
    return {"prefix": manager.prefix, "env": manager.environment}


@contextmanager
def restarted(server, manager, folder, *options):
    """The server after a restart."""
    assert server.stop() == 0
    assert "Traceback" not in server.stderr
    assert manager.stored
    with Lane(folder, *server.arguments, *options, **under(manager)) as after:
        after.ready()
        after.link = link_of(after)
        yield after
        until(lambda: not manager.stored)
        assert "Traceback" not in after.stderr


@pytest.mark.parametrize(("workers", "transport"), [("1", "quic"), ("1", "tls"), ("2", "auto")])
def test_sessions_go_on(tmp_path, origin, manager, workers, transport):
    folder = tmp_path / "server"
    with (
        start_server(folder, "--workers", workers, **under(manager)) as server,
        start_client(tmp_path / "client", transport, server.link) as client,
        UdpServer() as target,
        Associated(client.address) as association,
        ExitStack() as held,
    ):
        download, *chats = [
            held.enter_context(connected(client.address, where))
            for where in (origin.endless, *[origin.echo] * 20)
        ]
        assert all(map(echoes, chats))
        assert association.ask(target.address, b"0") == (target.address, b"0")
        assert read_exactly(download, MB) == CONTENT[:MB]
        with restarted(server, manager, folder) as second:
            assert all(map(echoes, chats))
            assert read_exactly(download, MB) == CONTENT[MB : 2 * MB]
            with restarted(second, manager, folder) as third:
                assert all(map(echoes, chats))
                assert read_exactly(download, MB) == CONTENT[2 * MB : 3 * MB]
                assert association.ask(target.address, b"1")[0] == target.address
                assert len(target.peers) == 1
                until(lambda: works(client, origin), client.describe)
                until(lambda: status(third)["sessions"] == len(chats) + 2, third.describe)
                for sock in chats:
                    sock.close()
                until(lambda: status(third)["sessions"] == 2)
    assert "Traceback" not in client.stderr


def test_what_does_not_fit_ends_honestly(tmp_path, origin):
    folder = tmp_path / "server"
    manager = ServiceManager(tmp_path, most=12)
    with (
        start_server(folder, **under(manager)) as server,
        start_client(tmp_path / "client", "tls", server.link) as client,
        ExitStack() as held,
    ):
        chats = [held.enter_context(connected(client.address, origin.echo)) for _ in range(20)]
        assert all(map(echoes, chats))
        with restarted(server, manager, folder):
            alive = 0
            for sock in chats:
                with suppress(ConnectionError):
                    alive += echoes(sock)
            assert 0 < alive < 12
            assert "FileDescriptorStoreMax=" in server.stderr
    manager.close()


def test_what_is_too_old_is_given_up(tmp_path, origin, manager):
    folder = tmp_path / "server"
    with (
        start_server(folder, "--resume-grace", "2s", **under(manager)) as server,
        start_client(tmp_path / "client", "tls", server.link) as client,
        connected(client.address, origin.echo) as sock,
    ):
        assert echoes(sock)
        assert server.stop() == 0
        end = time.monotonic() + 2.1
        until(lambda: time.monotonic() > end)
        with Lane(folder, *server.arguments, **under(manager)) as after:
            after.ready()
            breaks(sock)
            until(lambda: works(client, origin), client.describe)


def test_another_number_of_workers(tmp_path, origin, manager):
    folder = tmp_path / "server"
    with (
        start_server(folder, **under(manager)) as server,
        start_client(tmp_path / "client", "tls", server.link) as client,
        connected(client.address, origin.echo) as sock,
    ):
        assert echoes(sock)
        with restarted(server, manager, folder, "--workers", "2") as after:
            assert echoes(sock)
            assert len(status(after)["workers"]) == 2
