"""What can be wrong when lane starts: one line that says it, and the right exit status, with no traceback."""

import json
import os
import pty
import re
import secrets
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lane import state
from lane.address import Address
from lane.certs import ServerIdentity
from lane.link import Link, encode
from lane.testing.harness import until
from tests.support.processes import TRANSPORTS, Lane, connected, echoes, link_of, start_client, start_server

CONF = Path(__file__).parents[2] / "conf"
FREE = ("--listen", "127.0.0.1:0")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("server")) as server:
        server.state = Path(server.arguments[2])
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.stderr


@pytest.fixture
def link(server):
    return Link.parse(server.link)


def fails(result, status, pattern):
    assert result.returncode == status, result.stderr
    assert re.fullmatch(rf"lane: .*{pattern}.*\n", result.stderr), result.stderr
    assert result.stdout == ""


def wrong_key(link, origin):
    return replace(link, key=secrets.token_bytes(32))


def wrong_pin(link, origin):
    return replace(link, pin=secrets.token_bytes(32))


def closed_port(link, origin):
    return replace(link, address=Address("127.0.0.1", origin.closed))


MISTAKES = [
    (wrong_key, 77, "refused", "wrong key"),
    (wrong_pin, 77, "refused", "certificate is not the pinned one"),
    (closed_port, 69, "unreachable", ""),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("mistake", "status", "verdict", "reason"), MISTAKES)
def test_a_server_that_can_not_be_used(run_lane, link, origin, transport, mistake, status, verdict, reason):
    wrong = mistake(link, origin)
    result = run_lane("client", *FREE, "--transport", transport, "--server", wrong)
    fails(result, status, reason)
    result = run_lane("check", "--transport", transport, "--server", wrong)
    assert result.returncode == status
    assert re.fullmatch(rf"{transport:8} {verdict}: .*{reason}.*\n", result.stdout)
    assert result.stderr == ""


def in_order(result):
    """Its lines, which come as they are found out, by the names of the transports."""
    return "".join(sorted(result.stdout.splitlines(keepends=True)))


def test_check_tries_all_transports(run_lane, link, origin):
    result = run_lane("check", "--server", link)
    trip = r"works: round trip \d+\.\d ms, connected in \d+\.\d ms\n"
    assert re.fullmatch(f"quic     {trip}tls      {trip}", in_order(result)), result.stdout
    assert (result.returncode, result.stderr) == (0, "")
    result = run_lane("check", "--server", wrong_key(link, origin))
    assert re.fullmatch("quic     refused: .*\ntls      refused: .*\n", in_order(result))
    assert (result.returncode, result.stderr) == (77, "")


def test_check_is_good_if_one_transport_works(run_lane, tmp_path):
    with start_server(tmp_path / "server", "--transport", "tls") as server:
        result = run_lane("check", "--server", server.link)
    assert re.fullmatch("quic     unreachable: .*\ntls      works: .*\n", in_order(result))
    assert result.returncode == 0


BLOCKED = """
from gevent.event import Event
from lane import hookimpl
from lane.errors import Unreachable
from lane.testing.tcp import TCPTransport

tried = Event()

class First(TCPTransport):
    name = "first"

    def dial(self, endpoint, tls):
        raise Unreachable("others were tried meanwhile" if tried.wait(20) else "nobody else was tried")

class Second(TCPTransport):
    name = "second"

    def dial(self, endpoint, tls):
        tried.set()
        raise Unreachable("no way")

@hookimpl
def lane_register_transports(register):
    register(First())
    register(Second())
"""


def test_check_waits_for_no_transport_before_it_tries_the_next(run_lane, link, tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "blocked.py").write_text(BLOCKED)
    result = run_lane("check", "--server", link, "--plugin-dir", plugins)
    assert "first    unreachable: others were tried meanwhile\n" in result.stdout
    assert "second   unreachable: no way\n" in result.stdout


SOMEWHERE = ["client", "--server", "127.0.0.1:9", "--key=" + "A" * 43]


@pytest.mark.parametrize(
    ("arguments", "status", "pattern"),
    [
        (["client", "--no-such-option"], 2, "--no-such-option"),
        (["server", "--max-sessions", "many"], 2, "--max-sessions"),
        (["client", "--transport", "pigeon"], 2, "unknown transport 'pigeon'"),
        (["server", "--transport", "pigeon"], 2, "unknown transport 'pigeon'"),
        (["client", "--congestion", "vegas"], 2, "unknown controller 'vegas' (there are: bbr, cubic, reno)"),
        (["server", "--congestion", "vegas"], 2, "unknown controller 'vegas'"),
        (["client", "--tcp-congestion", "vegas"], 2, "--tcp-congestion: vegas cannot be used"),
        (["server", "--tcp-congestion", "vegas"], 2, "--tcp-congestion: vegas cannot be used"),
        (["client", "--fast-open", "maybe"], 2, "--fast-open: expected auto, on or off"),
        (["client", "--via", "socks5://127.0.0.1:1"], 2, "--via: does not go with an embedded server"),
        ([*SOMEWHERE, "--via", "ftp://me:secret@h"], 2, "--via: malformed proxy"),
        ([*SOMEWHERE, "--transport", "quic", "--via", "http://h"], 2, "quic does not run over TCP"),
        ([*SOMEWHERE, "--transport", "tls", "--via", "http://127.0.0.1:1"], 69, "http://127.0.0.1:1"),
        (["client", "--server", "lane://x"], 2, "malformed link"),
        (["client", "--server", "127.0.0.1:1"], 2, "needs a key"),
        (["client", "--server", "@missing"], 78, "missing"),
        (["client", "--listen", "0.0.0.0:0"], 2, "needs auth"),
        (["client", "-c", "bad.conf"], 78, "unknown key 'colour'"),
        (["server", "-c", "bad.conf"], 78, "unknown key 'colour'"),
        (["server", "--cert", "missing.pem", "--cert-key", "missing.pem"], 78, "missing.pem"),
        (["server", "--cert", "bad.conf", "--cert-key", "bad.conf"], 78, "no certificate in"),
        (["server", "--cert", ".", "--cert-key", "bad.conf"], 78, "cannot read"),
        (["server", "--state-dir", "bad.conf"], 78, "bad.conf"),
    ],
)
def test_a_mistake_is_one_line(run_lane, tmp_path, arguments, status, pattern):
    (tmp_path / "bad.conf").write_text("colour = blue\n")
    (tmp_path / "bad.conf").chmod(0o600)  # as it must be for a private key
    defaults = [] if "--listen" in arguments else [*FREE]
    fails(run_lane(*arguments, *defaults), status, re.escape(pattern))


def test_an_unreadable_certificate_is_78(run_lane, server, tmp_path):
    identity, other = ServerIdentity.make(), ServerIdentity.make()
    (tmp_path / "cert").write_bytes(identity.chain_pem)
    (tmp_path / "key").write_bytes(other.key_pem)
    (tmp_path / "key").chmod(0o600)
    result = run_lane("server", *FREE, "--cert", "cert", "--cert-key", "key", "--state-dir", "state")
    fails(result, 78, "not that of the first certificate")


@pytest.mark.parametrize("command", ["client", "server"])
def test_a_port_in_use_is_78(run_lane, tmp_path, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = "{}:{}".format(*taken.getsockname())
        state = ["--state-dir", "state"] if command == "server" else []
        fails(run_lane(command, "--listen", where, *state), 78, rf"cannot listen on {where}: .* in use")


def test_a_udp_port_in_use_is_78(run_lane):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        where = "{}:{}".format(*taken.getsockname())
        result = run_lane("server", "--listen", where, "--state-dir", "state", "--transport", "quic")
        fails(result, 78, rf"cannot listen on {where}.* in use")


def test_the_link_alone(run_lane, server):
    host = "{}:{}".format(*server.address)
    result = run_lane("link", "--state-dir", server.state, "--host", host)
    assert (result.returncode, result.stdout) == (0, server.link + "\n")
    assert "works on this machine only" in result.stderr


def test_the_link_stays_when_the_server_starts_again(tmp_path):
    with start_server(tmp_path) as first:
        assert first.stop() == 0
    with start_server(tmp_path, listen="{}:{}".format(*first.address)) as second:
        assert second.link == first.link


def test_the_key_reaches_no_journal(tmp_path):
    """Whatever reads standard output or the log may be there for others to read: at the first start, too."""
    for _ in range(2):
        with start_server(tmp_path) as server:
            assert server.stop() == 0
            key = Link.parse(server.link)
            for said in (server.stdout, server.stderr):
                assert "lane://" not in said
                assert encode(key.key) not in said


def test_the_link_is_shown_once_to_who_sits_there(tmp_path):
    def first_lines():
        ours, its = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "lane", "server", "--state-dir", "state", *FREE], cwd=tmp_path, stdout=its
        ) as server:
            os.close(its)
            with os.fdopen(ours, "rb") as terminal:
                try:
                    return terminal.readline().decode(), terminal.readline().decode().strip()
                finally:
                    server.terminate()

    listening, link = first_lines()
    assert listening.startswith("listening on 127.0.0.1:")
    assert Link.parse(link).key == state.look(tmp_path / "state").first.key
    _, command = first_lines()
    assert command.startswith(f"for clients: lane link --state-dir {tmp_path / 'state'} --host 127.0.0.1:")


def test_a_server_that_lost_its_identity_does_not_start(run_lane, tmp_path):
    with start_server(tmp_path) as server:
        assert server.stop() == 0
    (tmp_path / "state" / "identity.pem").unlink()
    fails(run_lane("server", "--state-dir", "state", *FREE), 78, r"no identity\.pem in .* --renew, and .*")
    with start_server(tmp_path, "--renew") as renewed:
        assert renewed.link != server.link
        assert renewed.stop() == 0


@pytest.mark.parametrize("way", ["file", "variable"])
def test_where_the_link_may_come_from(server, origin, tmp_path, way):
    (tmp_path / "link").write_text(f"{server.link}\n")
    (tmp_path / "link").chmod(0o600)
    options, env = (["--server", "@link"], {}) if way == "file" else ([], {"LANE_SERVER": server.link})
    with Lane(tmp_path, "--transport", "tls", *FREE, *options, env=env) as client:
        client.ready()
        assert "embedded" not in client.stdout
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock)
        assert client.stop() == 0  # the server would wait for one that was killed


def test_the_shipped_files_work(tmp_path, origin):
    with Lane(tmp_path, "client", "-c", CONF / "client.conf", *FREE) as client:
        client.ready()
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock)
        assert client.stop() == 0
    arguments = ["-c", CONF / "server.conf", *FREE, "--state-dir", tmp_path / "state"]
    with (
        Lane(tmp_path, "server", *arguments) as server,
        start_client(tmp_path, "quic", link_of(server.ready())) as client,
    ):
        assert client.stop() == 0
        assert server.stop() == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_that_does_not_insist_starts_without_its_server(tmp_path, origin, transport):
    with start_server(tmp_path / "server") as server:
        address = "{}:{}".format(*server.address)
        assert server.stop() == 0
    with start_client(tmp_path / "client", transport, server.link, "--no-check") as client:
        with pytest.raises(ConnectionError, match="reply code 1"):
            connected(client.address, origin.echo)
        with (
            start_server(tmp_path / "server", listen=address),
            connected(client.address, origin.echo) as sock,
        ):
            assert echoes(sock)


def test_the_command_of_the_package(tmp_path):
    command = [Path(sys.executable).with_name("lane"), "--version"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert re.fullmatch(r"lane \d.*\n", result.stdout)


def counted(end):
    """What a process says that it holds."""
    before = end.stderr.count("lane.census")
    end.process.send_signal(signal.SIGUSR1)
    line = until(lambda: re.findall(r"lane.census: (.*)\n", end.stderr)[before:], end.describe)[0]
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_both_ends_say_what_they_hold(tmp_path, server, origin, transport):
    """SIGUSR1 costs nobody anything: the session goes on."""
    with (
        start_client(tmp_path, transport, server.link) as client,
        connected(client.address, origin.echo) as sock,
    ):
        assert echoes(sock)
        for end in (client, server):
            held = counted(end)
            assert held["sessions"] >= 1  # of the server's, some may be ending
            assert held["carriers"] >= 1
        assert echoes(sock)


def test_what_a_server_knows_of_paths_outlives_it(tmp_path):
    file = tmp_path / "state" / "paths"
    with start_server(tmp_path) as server:
        assert server.stop() == 0
    found = json.loads(file.read_text())
    assert found["paths"] == []
    file.write_text(json.dumps({**found, "paths": [["192.0.2.1", 1e6, 0.1, 0.01, 60.0]]}))
    with start_server(tmp_path) as server:
        assert server.stop() == 0
    ((network, *figures, age),) = json.loads(file.read_text())["paths"]
    assert (network, figures) == ("192.0.2.1", [1e6, 0.1, 0.01])
    assert age > 60
