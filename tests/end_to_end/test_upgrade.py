"""A new process takes the place of a running server, and its clients notice nothing."""

import hashlib
import os
import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from lane import state
from lane.testing.harness import until
from tests.support.origin import CONTENT, MB, read_to_end
from tests.support.processes import (
    Lane,
    connected,
    curl,
    echoes,
    lasting_port,
    read_exactly,
    start_client,
    start_server,
    works,
)
from tests.support.udp_applications import Associated, UdpServer
from tests.support.upgrades import DIES_WHEN_ASKED, connecting, has_ended, stop, upgrade, upgraded
from tests.support.workers import on_linux, status

pytestmark = [on_linux, pytest.mark.bulk]


@contextmanager
def serving(folder, *options, **how):
    """A server that may be upgraded in the test."""
    with start_server(folder, *options, **how) as server:
        try:
            yield server
        finally:
            stop(server)
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize(("workers", "transport"), [("1", "quic"), ("1", "tls"), ("2", "auto")])
def test_sessions_go_on(tmp_path, origin, transport, workers):
    port, data = lasting_port(), random.Random(3).randbytes(8 * MB)
    with (
        serving(tmp_path / "server", "--workers", workers, "--allow-reverse", "*") as server,
        start_client(
            tmp_path / "client",
            transport,
            server.link,
            "--reverse",
            f"tcp://127.0.0.1:{port}=127.0.0.1:{origin.echo}",
        ) as client,
        UdpServer() as target,
        Associated(client.address) as association,
        ExitStack() as held,
    ):
        upload, download, half, *chats = [
            held.enter_context(connected(client.address, where))
            for where in (origin.digest, origin.endless, origin.digest, *[origin.echo] * 20)
        ]
        half.sendall(b"x")
        half.shutdown(socket.SHUT_WR)
        until(lambda: f":{port} " in client.stderr, client.describe)
        arrived = held.enter_context(socket.create_connection(("127.0.0.1", port)))
        sender = threading.Thread(target=lambda: (upload.sendall(data), upload.shutdown(socket.SHUT_WR)))
        sender.start()
        seen = 0
        for number in range(2):
            question = b"%d" % number
            while association.ask(target.address, question)[1] != question:
                pass  # an answer to an earlier one, which was asked twice
            before = status(server)["pid"]
            upgraded(server)
            until(lambda before=before: has_ended(before), server.describe)
            assert all(map(echoes, chats))
            assert echoes(arrived)
            at = seen % (10 * MB)
            assert read_exactly(download, MB) == CONTENT[at : at + MB]
            seen += MB
            with socket.create_connection(("127.0.0.1", port)) as more:
                assert echoes(more)
        assert read_to_end(upload) == hashlib.sha256(data).hexdigest().encode() + data
        assert read_to_end(half) == hashlib.sha256(b"x").hexdigest().encode() + b"x"
        sender.join()
        assert len(target.peers) == 1
        assert curl(client.address, "socks5", f"http://127.0.0.1:{origin.web}/0/1000") == CONTENT[:1000]
    assert "Traceback" not in client.stderr


@pytest.mark.parametrize("transport", ["tls"])  # those of the kernel are full too
def test_full_windows_go_along(tmp_path, transport):
    up, down = random.Random(1).randbytes(40 * MB), random.Random(2).randbytes(40 * MB)
    with (
        serving(tmp_path / "server") as server,
        start_client(tmp_path / "client", transport, server.link) as client,
        socket.create_server(("127.0.0.1", 0)) as listener,
        connected(client.address, listener.getsockname()[1]) as application,
    ):
        target, _ = listener.accept()
        with target, ThreadPoolExecutor(2) as pool:
            moved = [0, 0]

            def send(number, sock, data):
                for at in range(0, len(data), MB // 8):
                    sock.sendall(data[at : at + MB // 8])
                    moved[number] = at

            pool.submit(send, 0, application, up)
            pool.submit(send, 1, target, down)

            def stands():
                before = moved[:]
                time.sleep(0.5)
                return moved == before and min(moved) > MB

            until(stands, client.describe)
            upgraded(server)
            assert read_exactly(target, len(up)) == up
            assert read_exactly(application, len(down)) == down
    assert "Traceback" not in client.stderr


@pytest.mark.parametrize("transport", ["quic", "tls"])
def test_new_connections_are_served_all_the_time(tmp_path, origin, transport):
    with (
        serving(tmp_path / "server") as server,
        start_client(tmp_path / "client", transport, server.link) as client,
        connecting(client.address, origin.echo),
    ):
        upgraded(server)
    assert "Traceback" not in client.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_new_process_that_does_not_come_up_changes_nothing(tmp_path, origin, workers):
    configuration = tmp_path / "server.conf"
    configuration.write_text("")
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    meeting = tmp_path / "handover.sock"
    options = (
        "--config",
        configuration,
        "--plugin-dir",
        plugins,
        "--workers",
        workers,
        "--handover",
        meeting,
    )
    with (
        serving(tmp_path / "server", *options) as server,
        start_client(tmp_path / "client", "auto", server.link) as client,
        connected(client.address, origin.echo) as sock,
    ):
        assert echoes(sock)
        before = status(server)["pid"]
        for text, code, why in (
            ("nonsense = 1\n", "", "unknown key 'nonsense'"),
            ("cert = /nowhere\ncert-key = /nowhere\n", "", "/nowhere"),
            ("workers = 3\n" if workers == "1" else "", "import os\nos._exit(7)\n", "exit status 7"),
            ("", "import os, threading\nthreading.Timer(1.0, os._exit, (9,)).start()\n", ""),
            *([("", DIES_WHEN_ASKED, "has ended")] if workers == "1" else []),
        ):
            configuration.write_text(text)
            (plugins / "fault.py").write_text(code)
            done = upgrade(server)
            assert done.returncode == 1
            assert why in done.stderr
            until(lambda: status(server)["pid"] == before, server.describe)
            assert echoes(sock)
            until(lambda: works(client, origin), client.describe)
            until(meeting.exists)
        configuration.write_text("")
        (plugins / "fault.py").unlink()
        upgraded(server)
        assert echoes(sock)


@pytest.mark.parametrize("timeout", ["1s", "10m"])  # with more time, its session is sent once it is idle
def test_a_client_that_does_not_move_is_left_in_the_end(tmp_path, origin, timeout):
    with (
        serving(tmp_path / "server", "--upgrade-timeout", timeout) as server,
        start_client(tmp_path / "client", "tls", server.link) as client,
        connected(client.address, origin.echo) as sock,
    ):
        assert echoes(sock)
        os.kill(client.process.pid, signal.SIGSTOP)
        before = status(server)["pid"]
        upgraded(server)
        until(lambda: has_ended(before), server.describe)
        assert status(server)["sessions"] == 1
        os.kill(client.process.pid, signal.SIGCONT)
        began = time.monotonic()
        assert echoes(sock)
        assert time.monotonic() - began < 60


@pytest.mark.parametrize("workers", ["1", "2"])
def test_old_and_new_process_count_a_users_sessions_together(tmp_path, origin, workers):
    with serving(tmp_path / "server", "--workers", workers) as server, ExitStack() as stack:
        accounts = state.open_accounts(tmp_path / "server" / "state")
        stack.callback(accounts.close)
        accounts.change("default", sessions=1)
        until(lambda: "accounts that have changed: default" in server.stderr)
        first = stack.enter_context(start_client(tmp_path / "first", "tls", server.link, "--fast-open=off"))
        second = stack.enter_context(start_client(tmp_path / "second", "tls", server.link, "--fast-open=off"))
        running = stack.enter_context(connected(first.address, origin.echo))
        assert echoes(running)
        first.process.send_signal(signal.SIGSTOP)  # its session stays in the old process
        upgraded(server)
        assert (status(server)["sessions"], status(server)["leaving"]) == (0, 1)
        assert not works(second, origin)
        until(lambda: "your account allows 1 session at once" in second.stderr, second.describe)
        upgraded(server)  # which has the process before the last one end first
        assert sum(status(server)[where] for where in ("sessions", "leaving")) == 1
        assert not works(second, origin)
        first.process.send_signal(signal.SIGCONT)
        assert echoes(running)
        assert not works(second, origin)
        until(lambda: status(server)["leaving"] == 0, server.describe)
        assert status(server)["sessions"] == 1
        running.close()
        until(lambda: works(second, origin), second.describe)


@pytest.mark.parametrize(("workers", "stops"), [("1", True), ("2", False)])
def test_another_process_that_is_started_collects_the_sessions(tmp_path, origin, workers, stops):
    options = ("--handover", tmp_path / "handover.sock", "--grace", "60s", "--workers", workers)
    with (
        start_server(tmp_path / "server", *options) as server,
        start_client(tmp_path / "client", "auto", server.link) as client,
        connected(client.address, origin.echo) as sock,
        connected(client.address, origin.endless) as download,
    ):
        assert echoes(sock)
        assert read_exactly(download, MB) == CONTENT[:MB]
        until((tmp_path / "handover.sock").exists)
        if stops:
            server.process.send_signal(signal.SIGTERM)
        with Lane(tmp_path / "server", *server.arguments) as after:
            after.ready()
            assert server.ended() == 0
            assert echoes(sock)
            assert read_exactly(download, MB) == CONTENT[MB : 2 * MB]
            until(lambda: works(client, origin), client.describe)
            with Lane(tmp_path / "server", *server.arguments) as third:
                third.ready()
                assert after.ended() == 0
                assert echoes(sock)
                sock.close()
                download.close()
                until(lambda: status(third)["sessions"] == 0, third.describe)
                assert third.stop() == 0
    for one in (server, after, third, client):
        assert "Traceback" not in one.stderr
