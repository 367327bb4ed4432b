"""The access log of real servers: a line for each session, from all workers, in one file."""

import json
import signal

import pytest

from lane.testing.harness import until
from tests.support.origin import MB, Origin
from tests.support.processes import (
    TRANSPORTS,
    Lane,
    connected,
    curl,
    echoes,
    lasting_port,
    running_pair,
    start_client,
)
from tests.support.udp_applications import Associated, UdpServer
from tests.support.workers import FAR, NEAR, everywhere, on_linux


@pytest.fixture(scope="module")
def origin():
    with Origin() as origin:
        yield origin


def lines(file):
    return [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize("transport", ["tls"])
def test_who_where_how_much_and_how_it_ended(transport, origin, tmp_path):
    log = tmp_path / "access"
    options = ["--access-log", log, "--log-format", "json"]
    with running_pair(tmp_path, transport, options) as (server, client):
        curl(client.address, "socks5", f"http://127.0.0.1:{origin.web}/0/{MB}")
        until(lambda: lines(log), server.describe)
        (one,) = lines(log)
        assert (one["user"], one["client"], one["transport"]) == ("default", "127.0.0.1", transport)
        assert (one["kind"], one["target"], one["end"]) == ("tcp", f"127.0.0.1:{origin.web}", "clean")
        assert 50 < one["up"] < 1000
        assert MB < one["down"] < MB + 1000
        assert 0 < one["seconds"] < 1000
        held = connected(client.address, origin.echo)
        assert echoes(held, b"x" * 1000)
        client.kill()  # nobody comes back for it
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0
        held.close()
        (_, broken) = lines(log)
        assert broken["end"] != "clean"
        assert (broken["up"], broken["down"]) == (1000, 1000)
        for text in server.stderr.splitlines():
            assert json.loads(text)["message"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_packets_count_by_direction(transport, tmp_path):
    log = tmp_path / "access"
    options = ["--access-log", log, "--log-format", "json"]
    with running_pair(tmp_path, transport, options) as (server, client):
        with UdpServer(lambda data: data * 2) as target, Associated(client.address) as application:
            for number in range(10):
                until(lambda number=number: application.ask(target.address, b"%d" % number * 100))
        until(lambda: lines(log), server.describe)
        (one,) = lines(log)
        assert (one["kind"], one["target"], one["end"]) == ("udp", None, "clean")
        assert one["up"] >= 10 * 100
        assert one["down"] >= 10 * 200


@on_linux
def test_workers_share_the_file_and_open_it_again(origin, tmp_path):
    log = tmp_path / "access"
    server, links = everywhere(tmp_path, "--access-log", log, "--log-format", "json")
    with (
        server,
        start_client(tmp_path / "near", "quic", links[0]) as near,
        start_client(tmp_path / "far", "tls", links[1]) as far,
    ):

        def use(count):
            for client in (near, far):
                with connected(client.address, origin.echo) as sock:
                    assert echoes(sock)
            until(lambda: len(lines(log)) == count, server.describe)

        use(2)
        assert {one["client"] for one in lines(log)} == {NEAR, FAR}
        log.rename(tmp_path / "access.1")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.stderr.count("read again on SIGHUP") == 3, server.describe)
        use(2)


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_file_that_cannot_be_written_is_one_clear_line(count, tmp_path):
    listen = f"--listen=127.0.0.1:{lasting_port()}"
    options = ["--state-dir", tmp_path / "state", listen, "--workers", count]
    with Lane(tmp_path, "server", *options, "--access-log", tmp_path / "no" / "log") as server:
        assert server.ended() == 78
        assert f"cannot write the access log {tmp_path}/no/log: No such file" in server.stderr
        assert "Traceback" not in server.stderr


def test_standard_output_is_one_too(origin, tmp_path):
    with running_pair(tmp_path, "tls", ["--access-log", "-"]) as (server, client):
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock)
        server.wait_for(f"time=.* kind=tcp target=127.0.0.1:{origin.echo} up=5 down=5 .* end=clean")
