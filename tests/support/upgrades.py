"""Servers and clients that are upgraded: whoever takes the place of whom."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from lane.asking import ask
from lane.errors import Unreachable
from lane.testing.harness import until
from tests.support.processes import DEADLINE, connected, echoes, start_client
from tests.support.workers import status

DIES_WHEN_ASKED = "import os\nfrom lane import control\ncontrol._read_request = lambda *_: os._exit(9)\n"
"""A plugin whose process serves until it is asked for anything at its control socket."""


def upgrade(server, *options):
    """Run `lane upgrade`: the finished process."""
    folder = server.arguments[server.arguments.index("--state-dir") + 1]
    command = [sys.executable, "-m", "lane", "upgrade", "--state-dir", folder, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


def upgraded(server):
    """Upgrade the server, which goes well: the process that has its place now."""
    before = status(server)["pid"]
    done = upgrade(server)
    assert done.returncode == 0, (done.stderr, server.describe())
    after = status(server)["pid"]
    assert after != before
    return after


def has_ended(pid):
    """Whether a process is gone, or only waits for its parent to look."""
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"
    return True


def stop(server):
    """End whoever has the server's place now."""
    pid = status(server)["pid"]
    os.kill(pid, signal.SIGTERM)
    until(lambda: has_ended(pid), server.describe)


@contextmanager
def connecting(address, port):
    """Open connections through the client at `address` all the while, each with an echo from `port`."""
    over = threading.Event()

    def connect(_):
        count = 0
        while not over.is_set():
            with connected(address, port) as sock:
                assert echoes(sock)
            count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        counts = pool.map(connect, range(8))
        try:
            yield
        finally:
            over.set()
        assert all(counts)


def control_of(client):
    """Where an upgradable client answers."""
    return client.arguments[client.arguments.index("--control") + 1]


@contextmanager
def upgradable_client(folder, transport, link, *options, **how):
    """A client that may be upgraded in the test."""
    (folder / "run").mkdir(mode=0o700)
    where = ("--control", folder / "run" / "control.sock")
    with start_client(folder / "client", transport, link, *where, *options, **how) as client:
        try:
            yield client
        finally:
            with suppress(Unreachable, OSError):
                os.kill(client_process(client), signal.SIGTERM)
                until(lambda: not os.path.exists(control_of(client)), client.describe)
        assert "Traceback" not in client.stderr


def client_process(client):
    """The process that has the client's place now."""
    (answer,) = ask(Path(control_of(client)), what="process")
    return answer["pid"]


def upgrade_client(client, *options):
    """Run `lane upgrade` for a client: the finished process."""
    command = [sys.executable, "-m", "lane", "upgrade", "--control", control_of(client), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


def upgraded_client(client):
    """Upgrade a client, which goes well: what `lane upgrade` printed."""
    before = client_process(client)
    done = upgrade_client(client)
    assert done.returncode == 0, (done.stderr, client.describe())
    assert client_process(client) != before
    return done.stdout
