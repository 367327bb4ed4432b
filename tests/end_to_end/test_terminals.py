"""Each command that prints a result, at a terminal of 80 columns and in a pipe: it is plain text."""

import re
import subprocess
import sys

import pytest

from tests.support.processes import start_server
from tests.support.terminal import at_terminal

COMMANDS = {
    "--help": 0,
    "--version": 0,
    "check --server LINK": 0,
    "speedtest --server LINK --seconds 500ms --transport tls": 0,
    "status --state-dir STATE": 0,
    "link --state-dir STATE --host proxy.example.com": 0,
    "diag --state-dir STATE": 0,
    "plugins": 0,
    "why --listen 127.0.0.1:1": 69,
    "service": 2,
    "service install --server --dry-run": 0,
    "service remove --dry-run": 0,
    "speedtest": 2,
    "check": 2,
}
"""With the exit status of each."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("server")) as server:
        yield server


def words(command, server):
    return command.replace("LINK", server.link).replace("STATE", server.arguments[2]).split()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_terminal_gets_lines_and_perhaps_one_that_is_written_anew(command, server):
    status, said = at_terminal(*words(command, server))
    assert status == COMMANDS[command], said
    assert said.replace("\r", "").replace("\n", "").isprintable()
    anew = [piece for piece in said.split("\n") if "\r" in piece.rstrip("\r")]
    assert all(len(piece) < 80 for line in anew for piece in re.split("\r", line)[1:-1])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_gets_lines_alone(command, server):
    result = subprocess.run(
        [sys.executable, "-m", "lane", *words(command, server)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert result.returncode == COMMANDS[command], result.stderr
    assert (result.stdout + result.stderr).replace("\n", "").isprintable()
