"""Reverse forwards through real clients and servers: what connects to the server reaches a target here."""

import re
import socket
import subprocess
import threading
from contextlib import ExitStack

import pytest

from lane.testing.harness import until
from tests.support.inbound import is_reset
from tests.support.origin import CONTENT, MB, read_to_end
from tests.support.processes import (
    DEADLINE,
    TRANSPORTS,
    Lane,
    connected,
    echoes,
    file_sha256,
    sha256,
    start_client,
    start_server,
)

pytestmark = pytest.mark.bulk


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    return request.param


@pytest.fixture
def server(tmp_path):
    with start_server(tmp_path / "server", "--allow-reverse", "*") as server:
        yield server
        assert "Traceback" not in server.stderr


def reversing(folder, transport, link, port, *options, where="127.0.0.1:0", **how):
    """A client with a reverse forward to a port of this machine."""
    return start_client(
        folder, transport, link, "--reverse", f"tcp://{where}=127.0.0.1:{port}", *options, **how
    )


def port_of(client, port):
    """The port at the server that leads to `port`."""

    def found():
        for line in client.stderr.splitlines():
            if "reverse: " in line and line.endswith(f" -> 127.0.0.1:{port}") and "does not" not in line:
                return int(line.partition(" of ")[0].rpartition(":")[2])
        return None

    return until(found, client.describe)


def curl(*arguments):
    command = ["curl", "-q", "-sSf", "--noproxy", "*", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, timeout=100, check=False)
    assert result.returncode == 0, (command, result.stderr)
    return result.stdout


def test_50_at_once(origin, server, transport, tmp_path):
    with reversing(tmp_path / "client", transport, server.link, origin.web) as client:
        port = port_of(client, origin.web)
        size = 300_000
        for _ in range(2):
            options = ["--parallel", "--parallel-immediate", "--parallel-max", 50]
            curl(f"http://127.0.0.1:{port}/[0-49]/{size}", *options, "-o", tmp_path / "#1")
            for start in range(50):
                assert file_sha256(tmp_path / str(start)) == sha256(CONTENT[start : start + size])
        assert client.stop() == 0
        assert "Traceback" not in client.stderr


def test_half_close_both_ways(origin, server, transport, tmp_path):
    with reversing(tmp_path / "client", transport, server.link, origin.digest) as client:
        port = port_of(client, origin.digest)
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
            upload = threading.Thread(
                target=lambda: (sock.sendall(CONTENT[:MB]), sock.shutdown(socket.SHUT_WR))
            )
            upload.start()
            assert read_to_end(sock) == sha256(CONTENT[:MB]).encode() + CONTENT[:MB]
            upload.join()


def test_a_target_that_ends_first(server, transport, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
        with (
            reversing(tmp_path / "client", transport, server.link, port) as client,
            socket.create_connection(("127.0.0.1", port_of(client, port)), DEADLINE) as sock,
            target.accept()[0] as there,
        ):
            there.sendall(b"all I have to say")
            there.shutdown(socket.SHUT_WR)
            assert read_to_end(sock) == b"all I have to say"
            sock.sendall(CONTENT[:MB])
            sock.shutdown(socket.SHUT_WR)
            assert read_to_end(there) == CONTENT[:MB]


def test_a_target_that_is_not_there_resets(origin, server, transport, tmp_path):
    with reversing(tmp_path / "client", transport, server.link, origin.closed) as client:
        port = port_of(client, origin.closed)
        for _ in range(3):
            assert is_reset(("127.0.0.1", port))
        assert client.stderr.count("connection refused") == 1


def reached(port):
    """A socket to that port of this machine; None where nobody listens."""
    try:
        return socket.create_connection(("127.0.0.1", port), DEADLINE)
    except ConnectionRefusedError:
        return None


def test_a_server_that_is_killed_and_started_again(origin, transport, tmp_path):
    options = ["--allow-reverse", ":*"]
    with ExitStack() as stack:
        server = stack.enter_context(start_server(tmp_path / "server", *options))
        listen = f"{server.address[0]}:{server.address[1]}"
        client = stack.enter_context(reversing(tmp_path / "client", transport, server.link, origin.echo))
        port = port_of(client, origin.echo)
        for _ in range(2):
            server.kill()
            server = stack.enter_context(start_server(tmp_path / "server", *options, listen=listen))
            with until(lambda: reached(port), client.describe) as sock:
                assert echoes(sock)
        assert client.stop() == 0
        assert "Traceback" not in client.stderr


@pytest.mark.parametrize(
    "rules", [[], ["--allow-reverse", "127.0.0.1:1-2,127.0.0.2:*"]], ids=["nothing", "others"]
)
def test_a_server_that_refuses(origin, transport, tmp_path, rules):
    with (
        start_server(tmp_path / "server", *rules) as server,
        reversing(tmp_path / "client", transport, server.link, origin.echo) as client,
    ):
        until(lambda: "reverse: 127.0.0.1:0 of 127.0.0.1" in client.stderr, client.describe)
        (line,) = [line for line in client.stderr.splitlines() if "reverse:" in line]
        assert line.endswith(
            f"-> 127.0.0.1:{origin.echo} does not work, and is tried again: not allowed"
            " (the server's --allow-reverse)"
        )
        with connected(client.address, origin.echo) as sock:  # the rest works
            assert echoes(sock)
        assert client.stop() == 0


def answered(port):
    """A socket to the echo behind that port; None where it does not answer soon."""
    sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
    sock.settimeout(0.5)
    try:
        if echoes(sock):
            return sock
    except OSError:
        pass
    sock.close()
    return None


def test_another_process_takes_over_from_one_that_was_killed(origin, server, transport, tmp_path):
    with ExitStack() as stack:
        one = stack.enter_context(reversing(tmp_path / "one", transport, server.link, origin.echo))
        port = port_of(one, origin.echo)
        one.kill()
        where = f"127.0.0.1:{port}"
        two = reversing(tmp_path / "two", transport, server.link, origin.echo, where=where)
        stack.enter_context(two)
        assert port_of(two, origin.echo) == port
        with until(lambda: answered(port), two.describe):
            pass
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
                assert echoes(sock)


@pytest.mark.parametrize("side", ["client", "server"])
def test_nobody_waits_for_parked_sessions_at_the_end(origin, transport, tmp_path, side):
    grace = ["--grace", f"{10 * DEADLINE:g}s"]
    with (
        start_server(tmp_path / "server", "--allow-reverse", "*", *grace) as server,
        reversing(tmp_path / "client", transport, server.link, origin.echo, *grace) as client,
    ):
        port_of(client, origin.echo)
        assert {"client": client, "server": server}[side].stop() == 0


def test_the_embedded_server(origin, tmp_path):
    arguments = ["--listen", "127.0.0.1:0", "--reverse", f"tcp://localhost:0=127.0.0.1:{origin.echo}"]
    with Lane(tmp_path / "client", "client", *arguments) as client:
        client.ready()
        with socket.create_connection(("127.0.0.1", port_of(client, origin.echo)), DEADLINE) as sock:
            assert echoes(sock)
        assert client.stop() == 0
        assert "Traceback" not in client.stderr


def test_several_in_one_option(origin, server, transport, tmp_path):
    texts = f"tcp://:0=localhost:{origin.web}, tcp://[::1]:0=127.0.0.1:{origin.web}"
    with reversing(tmp_path / "client", transport, server.link, origin.echo, "--reverse", texts) as client:
        port = port_of(client, origin.echo)
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
            assert echoes(sock)

        def found(pattern):
            match = until(lambda: re.search(rf"reverse: {pattern}", client.stderr), client.describe)
            return match[1]

        everywhere = found(r"127\.0\.0\.1:(\d+) -> localhost")
        assert curl(f"http://127.0.0.1:{everywhere}/7/100") == CONTENT[7:107]
        six = found(r"\[::1\]:(\d+) of 127\.0\.0\.1 -> ")
        assert curl(f"http://[::1]:{six}/7/100") == CONTENT[7:107]


def test_applications_have_sessions_left(origin, server, transport, tmp_path):
    few = ["--max-sessions", "4"]
    with reversing(tmp_path / "client", transport, server.link, origin.echo, *few) as client:
        port = port_of(client, origin.echo)
        with ExitStack() as stack:
            applications = [stack.enter_context(connected(client.address, origin.echo)) for _ in range(2)]
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE))
            for each in (*applications, sock):
                assert echoes(each)
