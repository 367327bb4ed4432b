"""What lane says to a new user: to whom waits for its end, is refused, or has a server that is too old."""

import re
import signal
import socket

import pytest

from lane.testing.harness import until
from tests.support.origin import Origin
from tests.support.processes import (
    Lane,
    connected,
    echoes,
    http_connect,
    read_exactly,
    running_pair,
    socks5,
    start_client,
    start_server,
)

OLD_SERVER = """
from lane.errors import Status, TargetError
from lane.proto.hello import Command
from lane.server.requests import Requests

real = Requests._answer

def answer(self, asking, request):
    if request.command == Command.{}:
        raise TargetError(Status.COMMAND_NOT_SUPPORTED, "this server does not know that command")
    return real(self, asking, request)

Requests._answer = answer
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as origin:
        yield origin


@pytest.mark.parametrize("end", ["client", "server"])
def test_what_a_process_waits_for_at_its_end(origin, tmp_path, end):
    with running_pair(tmp_path, "tls") as (server, client), connected(client.address, origin.echo) as sock:
        assert echoes(sock)
        ending = client if end == "client" else server
        said = "stopping: 1 connection may finish within 10 s; Ctrl-C again ends at once"
        ending.process.send_signal(signal.SIGINT)
        until(lambda: said in ending.stderr, ending.describe)
        assert ending.stop(signal.SIGINT) == 130


def test_nobody_waits_where_nothing_is_open(tmp_path):
    with start_server(tmp_path) as server:
        assert server.stop(signal.SIGINT) == 0
        assert "stopping" not in server.stderr


def test_who_refused_is_said(origin, tmp_path):
    why = r"not allowed: loopback address \(the server's --allow\)"
    with (
        start_server(tmp_path / "server", allow=None) as server,
        start_client(tmp_path / "client", "tls", server.link) as client,
    ):
        assert http_connect(client.address, f"127.0.0.1:{origin.web}") == 403
        line = rf"INFO lane.client: the server refused 127.0.0.1:{origin.web}: {why}\n"
        until(lambda: re.search(line, client.stderr), client.describe)
        with socket.create_connection(client.address) as sock:
            url = f"http://127.0.0.1:{origin.web}/0/1"
            sock.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = read_exactly(sock, 12)
            while more := sock.recv(4096):
                answer += more
        assert re.search(why, answer.decode())
        for _ in range(20):
            sock, code = socks5(client.address, "127.0.0.1", origin.web)
            sock.close()
            assert code == 2
        assert len(re.findall(line, client.stderr)) == 1  # a minute


@pytest.mark.parametrize(("command", "words"), [("PROBE", "probes"), ("RESUME", "resuming"), ("UDP", "UDP")])
def test_a_server_that_is_too_old(run_lane, tmp_path, command, words):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "old.py").write_text(OLD_SERVER.format(command))
    with start_server(tmp_path / "server", "--plugin-dir", plugins) as server:
        result = run_lane("check", "--server", server.link)
    said = f"too old: the server does not know {words}; update lane there\n"
    assert sorted(result.stdout.splitlines(keepends=True)) == [f"quic     {said}", f"tls      {said}"]
    assert (result.returncode, result.stderr) == (77, "")


def test_an_address_of_ipv6_as_it_is_written(tmp_path):
    with Lane(tmp_path, "server", "--listen", "[::1]:0", "--state-dir", tmp_path / "state") as server:
        assert server.ready().address[0] == "[::1]"
        assert re.search(r"^a link to ::1 works on this machine only: ", server.stdout, re.MULTILINE)
        assert server.stop() == 0
