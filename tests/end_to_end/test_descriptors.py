"""Without descriptors: each request gets an answer in time, nothing is needed late, and all works again."""

import os
import resource
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from lane.testing.harness import until
from tests.support.processes import (
    TRANSPORTS,
    Lane,
    connected,
    echoes,
    http_connect,
    read_exactly,
    socks5,
    start_server,
)

ENOUGH = 20.0
"""Seconds for an answer: time-outs of a second each, and a machine with other work to do."""
TIMEOUTS = ("--dial-timeout", "1s", "--request-timeout", "1s", "--fast-open", "off")

NOTES = """
import os, sys
import gevent
from lane import hookimpl

notes = os.open(os.environ["LANE_TEST_NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def note(event, arguments):
    if event == "import" and arguments[0] not in sys.modules:
        os.write(notes, arguments[0].encode() + b"\\n")

sys.addaudithook(note)

@hookimpl
def lane_route(target):
    gevent.spawn(lambda: 1 / 0)  # a greenlet that dies

@hookimpl
def lane_authorize(request, identity):
    gevent.spawn(lambda: 1 / 0)
"""


def client(folder, *options, **how):
    """A client that is ready, with a server of its own unless `options` name one."""
    arguments = ["--listen", "127.0.0.1:0", "--control", "off", "--no-check", "--log-level", "debug"]
    return Lane(folder, "client", *arguments, *options, **how).ready()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("server")) as server:
        yield server


def noting(folder):
    """The options for a plugin that notes what is imported, its environment, and the file with the notes."""
    plugins, notes = folder / "plugins", folder / "notes"
    plugins.mkdir(mode=0o755)
    (plugins / "notes.py").write_text(NOTES)
    (plugins / "notes.py").chmod(0o644)
    return ("--plugin-dir", plugins), {"LANE_TEST_NOTES": str(notes)}, notes


@pytest.mark.parametrize("transport", [*TRANSPORTS, "embedded"])
def test_nothing_is_imported_late(tmp_path, origin, server, transport):
    """It might be when there is no descriptor to read it with."""
    options, env, notes = noting(tmp_path)
    where = () if transport == "embedded" else ("--transport", transport, "--server", server.link)
    rules = "direct 127.0.0.9, block ads.test"
    with client(tmp_path, *where, *options, "--rule", rules, env=env) as lane:
        known = len(notes.read_text().splitlines())
        assert known
        with connected(lane.address, origin.echo) as sock:
            assert echoes(sock, b"x" * 100_000)
        for host in ("localhost", "nosuch.invalid", "bücher.invalid", "127.0.0.9", "xn--bcher-kva.invalid"):
            sock, _ = socks5(lane.address, host, origin.closed)
            sock.close()
        assert http_connect(lane.address, f"localhost:{origin.closed}") == 502
        until(lambda: "ZeroDivisionError" in lane.stderr, lane.describe)
        assert not notes.read_text().splitlines()[known:]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_is_imported_late_by_a_server(tmp_path, origin, transport):
    """Its first client would wait for it, too."""
    options, env, notes = noting(tmp_path)
    with start_server(tmp_path / "server", *options, env=env) as server:
        known = len(notes.read_text().splitlines())
        assert known
        with client(tmp_path / "client", "--transport", transport, "--server", server.link) as lane:
            with connected(lane.address, origin.echo) as sock:
                assert echoes(sock, b"x" * 100_000)
            for host in ("localhost", "nosuch.invalid", "bücher.invalid"):
                sock, _ = socks5(lane.address, host, origin.closed)
                sock.close()
        until(lambda: "ZeroDivisionError" in server.stderr, server.describe)
        assert not notes.read_text().splitlines()[known:]


def leave(process, free):
    """Let a running process have `free` more descriptors than it has now."""
    used = sorted(int(name) for name in os.listdir(f"/proc/{process.pid}/fd"))
    limit = next(n for n in range(used[-1] + 1 + free, 0, -1) if n - sum(fd < n for fd in used) <= free)
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, hard))


def ask(proxy, port, command=1):
    """Ask for a target, or for UDP: the reply code; None where the connection is reset before."""
    with socket.create_connection(proxy, ENOUGH) as sock:
        try:
            sock.sendall(b"\5\1\0")
            assert read_exactly(sock, 2) == b"\5\0"
            sock.sendall(bytes((5, command, 0, 1, 127, 0, 0, 1)) + port.to_bytes(2, "big"))
            return read_exactly(sock, 10)[1]
        except ConnectionError:
            return None


@pytest.mark.parametrize("limited", ["embedded", "client", "server"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_whoever_asks_gets_an_answer_in_time(tmp_path, origin, transport, limited):
    with ExitStack() as stack:
        where = ()
        if limited != "embedded":
            server = stack.enter_context(start_server(tmp_path / "server"))
            where = ("--server", server.link)
        lane = stack.enter_context(client(tmp_path, "--transport", transport, *TIMEOUTS, *where))
        process = (server if limited == "server" else lane).process
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        pool = stack.enter_context(ThreadPoolExecutor())
        works = stack.enter_context(connected(lane.address, origin.echo))
        for free in range(5):
            leave(process, free)
            asked = [pool.submit(ask, lane.address, origin.echo, command) for command in (1, 3, 1)]
            assert {one.result() for one in asked} <= {0, 1, 6, None}
            assert echoes(works)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        until(lambda: ask(lane.address, origin.echo) == 0, lane.describe)
        until(lambda: ask(lane.address, origin.echo, 3) == 0, lane.describe)
        assert echoes(works)
        assert lane.stderr.count("cannot accept") <= 6, "not a line for each try"


@pytest.mark.parametrize("limit", [38, 41])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_when_others_leave_who_was_greeted_is_answered(tmp_path, origin, transport, limit):
    prefix = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh")
    with client(tmp_path, "--transport", transport, *TIMEOUTS, prefix=prefix) as lane, ExitStack() as stack:
        socks = []
        while True:
            sock = stack.enter_context(socket.create_connection(lane.address, ENOUGH))
            sock.settimeout(0.5)
            try:
                sock.sendall(b"\5\1\0")
                assert read_exactly(sock, 2) == b"\5\0"
                sock.sendall(bytes((5, 1, 0, 1, 127, 0, 0, 1)) + origin.echo.to_bytes(2, "big"))
                if read_exactly(sock, 10)[1]:
                    break
            except (TimeoutError, ConnectionError):
                break
            socks.append(sock)
        assert socks
        for one in socks:
            one.close()
        sock.settimeout(ENOUGH)
        with suppress(ConnectionError):
            sock.recv(10)  # an answer, or an end: not a time-out
        for _ in range(3):
            ask(lane.address, origin.echo)
        until(lambda: ask(lane.address, origin.echo) == 0, lane.describe)
