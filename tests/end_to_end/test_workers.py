"""A server of several processes: `lane server --workers`, and `lane status`."""

import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lane import state
from lane.testing.harness import until
from tests.support.origin import CONTENT, MB, read_to_end
from tests.support.processes import (
    DEADLINE,
    TRANSPORTS,
    Lane,
    breaks,
    connected,
    curl,
    echoes,
    sha256,
    start_client,
    start_server,
    works,
)
from tests.support.workers import (
    NEAR,
    TRUTHFUL,
    children_of,
    everywhere,
    of,
    on_linux,
    status,
    workers,
)

pytestmark = on_linux


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    ("transport", "spread"), [("quic", "connection"), ("tls", "connection"), ("auto", "address")]
)
def test_many_connections(tmp_path, origin, transport, spread, count):
    with (
        workers(tmp_path / "server", "--spread", spread, count=count) as server,
        start_client(tmp_path / "client", transport, server.link) as client,
    ):

        def exchange(number):
            with connected(client.address, origin.digest) as sock:
                data = CONTENT[number * 1000 : number * 1000 + MB // 2]
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                answer = read_to_end(sock)
                return answer == sha256(data).encode() + data

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(exchange, range(60)))
        url = f"http://127.0.0.1:{origin.web}/0/{5 * MB}"
        assert curl(client.address, "socks5", url) == CONTENT[: 5 * MB]
        held = [connected(client.address, origin.echo) for _ in range(20)]
        assert all(map(echoes, held))
        now = status(server)
        assert now["sessions"] == sum(one["sessions"] for one in now["workers"]) == 20
        busy = [one for one in now["workers"] if one["sessions"]]
        assert len(busy) > 1 if transport == "tls" else len(busy) == 1
        for sock in held:
            sock.close()
        until(lambda: status(server)["sessions"] == 0)
        assert server.stop() == 0
    assert "Traceback" not in server.stderr + client.stderr


def test_what_it_says(tmp_path):
    with workers(tmp_path) as server:
        found = status(server)
        assert found["pid"] == server.process.pid
        assert len({one["pid"] for one in found["workers"]} - {0, found["pid"]}) == 2
        command = [sys.executable, "-m", "lane", "status", "--state-dir", str(tmp_path / "state")]
        said = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True).stdout
        assert re.fullmatch(
            r"lane \S+, process \d+ since .*: 0 sessions, 0 carriers\n(  worker .*\n){2}", said
        )
        path = tmp_path / "state" / "status.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        server.process.send_signal(signal.SIGUSR1)
        until(
            lambda: set(re.findall(r"lane.census: (worker \d): ", server.stderr)) == {"worker 1", "worker 2"}
        )
        assert server.stop() == 0
        assert not path.exists()
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 69
        assert done.stderr.startswith("lane: no server answers at ")


def test_one_process_is_one_process(tmp_path, origin):
    with start_server(tmp_path / "server") as server, start_client(tmp_path, "tls", server.link) as client:
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock)
            found = status(server)
            assert found["pid"] == found["workers"][0]["pid"] == server.process.pid
            assert found["sessions"] == found["workers"][0]["sessions"] == 1
        assert "worker 1" not in server.stderr
        children = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
        with open(children) as file:
            assert file.read() == ""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_all_know_of_a_removed_user(tmp_path, origin, transport):
    server, links = everywhere(tmp_path / "server")
    with (
        server,
        start_client(tmp_path / "near", transport, links[0], *TRUTHFUL) as near,
        start_client(tmp_path / "far", transport, links[1], *TRUTHFUL) as far,
    ):
        with connected(near.address, origin.echo) as one, connected(far.address, origin.echo) as other:
            assert echoes(one)
            assert echoes(other)
            state.open_accounts(tmp_path / "server" / "state").remove("default")
            breaks(one)
            breaks(other)
        for client in (near, far):
            until(lambda client=client: "your account was removed" in client.stderr)
            assert not works(client, origin)
        os.kill(of(server, NEAR)["pid"], signal.SIGKILL)  # its successor knows it too
        until(lambda: of(server, NEAR)["restarts"] == 1 and of(server, NEAR)["pid"])
        assert not works(near, origin)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_stop_lets_sessions_finish(tmp_path, origin, transport):
    server, links = everywhere(tmp_path / "server", "--grace", "100s")
    with (
        server,
        start_client(tmp_path / "near", transport, links[0]) as near,
        start_client(tmp_path / "far", transport, links[1]) as far,
        connected(near.address, origin.echo) as one,
        connected(far.address, origin.echo) as other,
    ):
        assert echoes(one)
        assert echoes(other)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "2 connections may finish" in server.stderr)
        for pid in [one["pid"] for one in children_of(server)]:
            os.kill(pid, signal.SIGTERM)  # as systemd does; it counts once

        def refused():
            try:
                socket.create_connection(server.address, DEADLINE).close()
            except ConnectionRefusedError:
                return True
            return False

        until(refused)
        for sock in (one, other):
            assert echoes(sock)
            sock.shutdown(socket.SHUT_WR)
            assert read_to_end(sock) == b""
        assert server.ended() == 0


def test_a_second_signal_ends_it_at_once(tmp_path, origin):
    with (
        workers(tmp_path / "server", "--grace", "1h") as server,
        start_client(tmp_path, "tls", server.link) as client,
        connected(client.address, origin.echo) as sock,
    ):
        assert echoes(sock)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "may finish" in server.stderr)
        children = children_of(server)
        assert server.stop() == 128 + signal.SIGTERM
        assert not any(os.path.exists(f"/proc/{one['pid']}") for one in children)


OWN_SOCKET = """
import socket
from lane import hookimpl
from lane_tls.plugin import TLSTransport

class Own(TLSTransport):
    name = "own"

    def listen(self, endpoint, tls):
        self.held = socket.create_server(("127.0.0.1", PORT))
        return super().listen(endpoint._replace(port=0), tls)

@hookimpl
def lane_register_transports(register):
    register(Own())
"""


def test_a_worker_that_cannot_start(tmp_path):
    """A transport opens a socket by itself. The first worker has it, so another one can't."""
    with socket.create_server((NEAR, 0)) as free:
        port = free.getsockname()[1]
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o700)
    (plugins / "own.py").write_text(OWN_SOCKET.replace("PORT", str(port)))
    arguments = ["--state-dir", tmp_path / "state", "--listen", f"{NEAR}:0", "--plugin-dir", plugins]
    with Lane(tmp_path, "server", *arguments, "--transport", "tls,own", "--workers", "2") as server:
        assert server.ended() == 1
        assert re.search(
            r"^lane: worker \d cannot start: own cannot listen on .* in use", server.stderr, re.MULTILINE
        )
        assert "--workers 1" in server.stderr
        assert server.stdout == ""
    with Lane(tmp_path, "server", *arguments, "--transport", "tls,own") as server:
        server.ready()


def test_a_port_that_is_taken(tmp_path):
    """Also by another server of the same user, whose sockets could be shared."""
    with workers(tmp_path / "first") as first:
        listen = "{}:{}".format(*first.address)
        with Lane(
            tmp_path, "server", "--state-dir", tmp_path / "s", "--listen", listen, "--workers", "2"
        ) as second:
            assert second.ended() == 78
            assert re.search(rf"^lane: cannot listen on {listen}.*in use", second.stderr, re.MULTILINE)


def test_limits_hold_for_all_workers(tmp_path, origin):
    server, links = everywhere(tmp_path / "server", "--max-sessions", "8")
    with (
        server,
        start_client(tmp_path / "near", "tls", links[0], *TRUTHFUL) as near,
        start_client(tmp_path / "far", "tls", links[1], *TRUTHFUL) as far,
    ):
        held = [connected(near.address, origin.echo) for _ in range(4)]  # half of all
        held += [connected(far.address, origin.echo) for _ in range(2)]  # half of the rest
        assert all(map(echoes, held))
        for client in (near, far):
            assert not works(client, origin)
        for sock in held:
            sock.close()


def test_a_log_file_is_shared(tmp_path):
    log = tmp_path / "log"
    with workers(tmp_path, "--log-file", log) as server:
        log.rename(tmp_path / "old")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: log.exists() and len(re.findall("read again on SIGHUP", log.read_text())) == 3)
        assert set(re.findall(r"lane: (worker \d): read", log.read_text())) == {"worker 1", "worker 2"}
        assert server.stderr == ""
