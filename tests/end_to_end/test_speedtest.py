"""`lane speedtest` against a real server: at a terminal, in a pipe, as JSON, and where there is no server."""

import json
import re
import secrets
import subprocess
import sys
from dataclasses import replace

import pytest

from lane.address import Address
from lane.link import Link
from tests.support.processes import TRANSPORTS, start_server
from tests.support.terminal import at_terminal

SHORT = ("--seconds", "500ms")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("server")) as server:
        yield server
        assert "Traceback" not in server.stderr


def speedtest(*arguments):
    command = [sys.executable, "-m", "lane", "speedtest", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_each_transport_has_its_line_and_there_is_a_verdict(server):
    result = speedtest("--server", server.link, *SHORT, "--transport", "each")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"through {Link.parse(server.link).address}, 0.5 s each way"
    figures = r" +[\d,.]+ Mbit/s +[\d,.]+ Mbit/s +[\d,.]+ ms +[\d,.]+ ms +[\d,.]+ ms +([\d.]+ %|-)"
    for transport, line in zip(TRANSPORTS, lines[2:], strict=False):
        assert re.fullmatch(f"{transport}{figures}", line), line
    assert all(len(line) <= 80 for line in lines[:4])
    assert any(line.startswith(("tls delivers", "quic delivers")) for line in lines)
    assert result.stdout.replace("\n", "").isprintable()


def test_json_has_every_figure(server):
    result = speedtest("--server", server.link, *SHORT, "--json", "--transport", "tls")
    found = json.loads(result.stdout)
    (row,) = found["results"]
    assert (row["transport"], row["cost"], row["error"]) == ("tls", 1.0, None)
    assert all(row[name] > 0 for name in ("down", "up", "idle", "loaded"))
    assert found["verdict"]


def test_a_terminal_shows_progress_within_its_columns(server):
    status, said = at_terminal("speedtest", "--server", server.link, *SHORT, "--transport", "tls")
    assert status == 0
    pieces = re.split("[\r\n]+", said)
    assert any(piece.startswith("[") and "tls" in piece for piece in pieces)
    assert max(map(len, pieces)) <= 80


def test_the_way_without_lane_is_measured_too(server, origin):
    url = f"http://127.0.0.1:{origin.web}/0/20000000"
    result = speedtest("--server", server.link, *SHORT, "--transport", "tls", "--json", "--direct", url)
    direct = json.loads(result.stdout)["results"][-1]
    assert (direct["transport"], direct["cost"]) == ("direct", None)
    assert (direct["error"], direct["down"] > 0, direct["idle"] > 0) == (None, True, True)


def test_a_direct_target_that_fails_is_said(server, origin):
    url = f"http://127.0.0.1:{origin.closed}/"
    result = speedtest("--server", server.link, *SHORT, "--transport", "tls", "--direct", url)
    assert result.returncode == 0
    assert re.search(rf"(?m)^direct +{re.escape(url)}: .*refused", result.stdout)


def test_a_server_that_is_not_there_is_69(origin, server):
    link = replace(Link.parse(server.link), address=Address("127.0.0.1", origin.closed))
    result = speedtest("--server", link, *SHORT, "--transport", "tls")
    assert result.returncode == 69
    assert re.search("(?m)^tls +.*refused", result.stdout)


def test_a_wrong_key_is_77(server):
    link = replace(Link.parse(server.link), key=secrets.token_bytes(32))
    result = speedtest("--server", link, *SHORT, "--transport", "quic")
    assert result.returncode == 77
    assert re.search("(?m)^quic +.*wrong key", result.stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no server to test: pass --server"),
        (["--seconds", "31s"], "--seconds: 31s is out of range: 500ms to 30s"),
        (
            ["--direct", "ftp://x"],
            "--direct: malformed URL 'ftp://x': expected http://HOST/PATH or https://...",
        ),
    ],
)
def test_wrong_usage_is_one_line(arguments, said, server):
    link = ["--server", server.link] if arguments else []
    result = speedtest(*link, *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"lane: {said}\n")
