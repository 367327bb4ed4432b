"""`lane check`, also with --deep: in a pipe, and where UDP is blocked or there is no server."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from lane.address import Address
from lane.link import Link
from tests.support.processes import start_server


def check(*arguments):
    command = [sys.executable, "-m", "lane", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("server")) as server:
        yield server
        assert "Traceback" not in server.stderr


def test_a_pipe_gets_a_line_for_each_transport(server):
    result = check("--server", server.link)
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(line.split()[:2] for line in result.stdout.splitlines()) == [
        ["quic", "works:"],
        ["tls", "works:"],
    ]


@pytest.mark.long
def test_a_deep_check_looks_at_everything(server):
    result = check("--server", server.link, "--deep")
    assert (result.returncode, result.stderr) == (0, "")
    found = re.findall(r"(?m)^(?:ok|note|warn) +(\w+(?: \w+)*)  ", result.stdout)
    assert {"versions", "clock", "certificate", "UDP", "path MTU", "over quic", "over tls"} <= {*found}
    assert {"UDP loss", "kernel"} <= {*found}
    assert result.stdout.replace("\n", "").isprintable()


@pytest.mark.long
def test_a_server_without_udp_still_has_a_deep_check(tmp_path):
    with start_server(tmp_path, "--transport", "tls") as server:
        result = check("--server", server.link, "--deep")
    assert result.returncode == 0
    assert "warn UDP          gets through, but nobody listens there" in result.stdout
    assert "ok   over tls" in result.stdout


def test_a_server_that_is_not_there_is_69(server, origin):
    link = replace(Link.parse(server.link), address=Address("127.0.0.1", origin.closed))
    result = check("--server", link, "--deep")
    assert result.returncode == 69
    assert "kernel" in result.stdout
    assert result.stderr == ""
