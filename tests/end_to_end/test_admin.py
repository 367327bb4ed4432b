"""The admin port of real processes: what it says, to whom, and that it says the same with several workers."""

import os
import signal
import subprocess
import urllib.error

import pytest

from lane.testing.harness import until
from tests.support.admin import SECRET, fetch, guarded, scrape
from tests.support.origin import BIG, MB, Origin
from tests.support.processes import (
    TRANSPORTS,
    Lane,
    connected,
    curl,
    echoes,
    lasting_port,
    read_exactly,
    running_pair,
    socks5,
    start_client,
    start_server,
)
from tests.support.udp_applications import Associated, UdpServer
from tests.support.workers import FAR, NEAR, everywhere, is_back, of, on_linux


@pytest.fixture(scope="module")
def origin():
    with Origin() as origin:
        yield origin


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_long_download_counts_while_it_runs(transport, origin, tmp_path):
    port, options = guarded(tmp_path)
    with running_pair(tmp_path, transport, options) as (server, client):
        with connected(client.address, origin.web) as sock:
            sock.sendall(f"GET /0/{BIG} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            read_exactly(sock, MB)
            found = scrape(port)
            down = found["lane_bytes_total", "down", transport]
            assert down >= MB
            assert found["lane_user_bytes_total", "down", "default"] == pytest.approx(down, rel=0.5)
            assert found["lane_user_bytes_total", "down", "other"] < down
            assert (found["lane_sessions",], found["lane_user_sessions", "default"]) == (1, 1)
            assert (found["lane_carriers", transport] >= 1, found["lane_users_online",]) == (True, 1)
            read_exactly(sock, 20 * MB)
            later = scrape(port)
            assert later["lane_bytes_total", "down", transport] > down
            assert later["lane_link_sent_bytes_total", transport] > MB
        until(lambda: scrape(port)["lane_sessions",] == 0, server.describe)
        found = scrape(port)
        assert found["lane_sessions_begun_total", "tcp"] == 1
        assert found["lane_sessions_ended_total", "clean"] + found["lane_sessions_ended_total", "broken"] == 1
        assert found["lane_round_trip_seconds_count", transport] >= 1
        assert found["lane_memory_resident_bytes", "1"] > MB
        for before, now in ((later, found),):
            fell = {key for key, value in before.items() if "_total" in key[0] and now[key] < value}
            assert not fell


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_packets_and_refusals(transport, origin, tmp_path):
    port, options = guarded(tmp_path)
    with running_pair(tmp_path, transport, options, ["--fast-open", "off"]) as (_, client):
        with UdpServer() as target, Associated(client.address) as application:
            for _ in range(5):
                assert application.ask(target.address, b"x" * 100)
            found = scrape(port)
            assert found["lane_packets_total", "up"] >= 5
            assert found["lane_packets_total", "down"] >= 5
            assert found["lane_bytes_total", "down", transport] >= 500
        sock, code = socks5(client.address, "10.1.2.3", 80)
        sock.close()
        assert code == 2
        assert scrape(port)["lane_refusals_total", "not_allowed"] == 1


def test_who_may_ask(tmp_path):
    port, options = guarded(tmp_path)
    with start_server(tmp_path, *options) as server:
        assert fetch(port, "/metrics", secret=None)[0] == 401
        assert fetch(port, "/metrics", secret="wrong")[0] == 401
        assert fetch(port, "/metrics", secret=f"Bearer {SECRET}")[0] == 200
        assert fetch(port, "/healthz", secret=None) == (200, "ok\n")
        assert fetch(port, "/readyz", secret=None) == (200, "ready\n")
        (tmp_path / "admin-secret").write_text("another-secret-than-that\n")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: fetch(port, "/metrics", secret="another-secret-than-that")[0] == 200)
        assert fetch(port, "/metrics")[0] == 401


@pytest.mark.parametrize("command", ["server", "client"])
def test_a_port_that_others_reach_needs_a_secret(command, tmp_path):
    options = ["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:9433"]
    state = ["--state-dir", tmp_path / "state"] if command == "server" else []
    with Lane(tmp_path, command, *options, *state) as lane:
        assert lane.ended() == 64 or lane.ended() == 2
        assert (
            "--admin: 0.0.0.0:9433 can be reached from other machines: that needs admin-secret" in lane.stderr
        )


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_socket_of_the_file_system_needs_no_secret(count, tmp_path):
    tmp_path.chmod(0o700)
    path = tmp_path / "admin.sock"
    with start_server(tmp_path, "--admin", f"unix:{path}", "--workers", count) as server:
        command = ["curl", "-sS", "--unix-socket", str(path), "http://any-name/metrics"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert f"lane_workers {count}.0" in done.stdout
        assert server.stop() == 0
        assert not path.exists()


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_port_in_use_is_one_clear_line(count, tmp_path):
    port = lasting_port()
    with start_server(tmp_path / "one", "--admin", f"127.0.0.1:{port}"):
        options = ["--state-dir", tmp_path / "state", "--listen", f"127.0.0.1:{lasting_port()}"]
        with Lane(tmp_path, "server", *options, "--workers", count, "--admin", f"127.0.0.1:{port}") as other:
            assert other.ended() in (1, 78)
            assert f"cannot listen on 127.0.0.1:{port}" in other.stderr
            assert "Traceback" not in other.stderr


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_server_that_ends_says_that_it_is_not_ready(count, origin, tmp_path):
    port, options = guarded(tmp_path)
    with (
        start_server(tmp_path / "server", *options, "--workers", count, "--grace", "60s") as server,
        start_client(tmp_path / "client", "tls", server.link) as client,
    ):
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock)
            assert fetch(port, "/readyz")[0] == 200
            server.process.send_signal(signal.SIGTERM)
            until(lambda: status_of(port) == 503, server.describe)
            assert fetch(port, "/healthz")[0] == 200
            assert scrape(port)["lane_sessions",] == 1
        assert server.ended() == 0


def status_of(port):
    try:
        return fetch(port, "/readyz")[0]
    except (urllib.error.URLError, ConnectionError):
        return None


@on_linux
def test_workers_add_up_and_no_counter_falls_when_one_is_killed(origin, tmp_path):
    port, options = guarded(tmp_path)
    server, links = everywhere(tmp_path, *options)
    with (
        server,
        start_client(tmp_path / "near", "quic", links[0]) as near,
        start_client(tmp_path / "far", "quic", links[1]) as far,
    ):
        for client in (near, far):
            curl(client.address, "socks5", f"http://127.0.0.1:{origin.web}/0/{MB}")
        found = scrape(port)
        assert all(scrape(port)["lane_bytes_total", "down", "quic"] >= 2 * MB for _ in range(10))
        assert found["lane_workers",] == 2
        assert found["lane_user_bytes_total", "down", "default"] >= 2 * MB
        before = scrape(port)
        os.kill(of(server, NEAR)["pid"], signal.SIGKILL)
        until(lambda: is_back(server, 1), server.describe)
        curl(far.address, "socks5", f"http://127.0.0.1:{origin.web}/0/{MB}")
        for _ in range(10):
            now = scrape(port)
            fell = {key for key, value in before.items() if "_total" in key[0] and now[key] < value}
            assert not fell
            before = now
        assert before["lane_bytes_total", "down", "quic"] >= 3 * MB
        assert of(server, FAR)["pid"]


def test_a_client_says_what_its_lanes_do(origin, tmp_path):
    port, options = guarded(tmp_path)
    with running_pair(tmp_path, "auto", (), options) as (_, client):
        curl(client.address, "socks5", f"http://127.0.0.1:{origin.web}/0/{MB}")
        both = {("lane_path_up", name) for name in ("quic", "tls")}
        until(lambda: both <= scrape(port).keys(), client.describe)
        found = scrape(port)
        assert sum(value for key, value in found.items() if key[0] == "lane_path_carries") == 1
        assert found["lane_outage",] == 0
        assert fetch(port, "/readyz")[0] == 200
