"""Processes are killed at random moments while sessions go from one to another.

`make fuzz` tries many moments.
"""

import os
import random
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from lane.address import Address
from lane.asking import ask
from lane.errors import Unreachable
from lane.link import Link
from lane.meeting import server_path
from lane.testing.harness import until
from tests.support.killings import Talks
from tests.support.middleman import Middleman
from tests.support.processes import start_client, start_server
from tests.support.upgrades import client_process, has_ended, stop, upgradable_client
from tests.support.workers import on_linux, workers

pytestmark = on_linux
SEEDS = range(50 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 1)
SERVER = "--resume-grace", "10s", "--upgrade-timeout", "10s"
MOVING = 2.0, 3.5
"""The seconds after the new process serves in which most sessions go there."""


def server_state(server):
    """What the server tells of itself; None while nobody answers."""
    folder = Path(server.arguments[server.arguments.index("--state-dir") + 1])
    try:
        (found,) = ask(server_path(folder), who="server", named=True)
    except Unreachable:
        return None
    return found


def server_process(server):
    """The process that has the server's place now; None while nobody answers."""
    found = server_state(server)
    return found and found["pid"]


@contextmanager
def serving(folder, *options):
    with start_server(folder, *SERVER, *options) as server:
        try:
            yield server
        finally:
            stop(server)
        assert "Traceback" not in server.stderr


def succeeded(now, chance):
    """Have a new process take the place of the one that `now` tells. Both, at a random moment of that."""
    old = now()
    os.kill(old, signal.SIGUSR2)
    new = until(lambda: [one.pid for one in psutil.Process(old).children()])[-1]
    if chance.random() < 0.2:  # while it starts
        time.sleep(chance.uniform(0.0, 1.0))
    else:
        until(lambda: now() == new)
        time.sleep(chance.uniform(0.0, 2.0) if chance.random() < 0.2 else chance.uniform(*MOVING))
    return old, new


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("victim", ["old", "new", "client"])
def test_while_a_server_is_upgraded(tmp_path, victim, seed):
    chance = random.Random(f"{victim} {seed}")
    transport, count = chance.choice(("quic", "tls", "auto")), chance.choice(("1", "1", "2"))
    with (
        serving(tmp_path / "server", "--workers", count) as server,
        start_client(tmp_path / "client", transport, server.link) as client,
    ):
        talks = Talks(client.address)
        with talks.going_on():
            old, new = succeeded(lambda: server_process(server), chance)
            killed = {"old": old, "new": new, "client": client.process.pid}[victim]
            os.kill(killed, signal.SIGKILL)
            if victim == "client":
                until(lambda: (server_state(server) or {}).get("sessions") == 0, server.describe)
            else:
                until(lambda: (server_process(server) or killed) != killed, server.describe)
                until(talks.get_through, client.describe)
        if victim == "new" and not server.stderr.count("takes the place"):
            assert all(talks.lasting)
        assert "Traceback" not in client.stderr


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("victim", ["old", "new"])
def test_while_a_client_is_upgraded(tmp_path, victim, seed):
    chance = random.Random(f"{victim} {seed}")
    transport = chance.choice(("quic", "tls", "auto"))
    with (
        serving(tmp_path / "server") as server,
        upgradable_client(tmp_path, transport, server.link) as client,
    ):
        talks = Talks(client.address)
        with talks.going_on():
            old, new = succeeded(lambda: client_process(client), chance)
            killed = {"old": old, "new": new}[victim]
            os.kill(killed, signal.SIGKILL)
            until(lambda: has_ended(killed))
            until(talks.get_through, client.describe)


@pytest.mark.parametrize("seed", SEEDS)
def test_while_sessions_go_to_other_workers(tmp_path, seed):
    chance = random.Random(seed)
    with (
        workers(tmp_path / "server", "--spread", "connection", *SERVER, count=4) as server,
        Middleman(server.address, "127.0.0.1") as middleman,
    ):
        link = str(replace(Link.parse(server.link), address=Address(*middleman.address)))
        with start_client(tmp_path / "client", "tls", link) as client:
            talks = Talks(client.address)
            with talks.going_on():
                for _ in range(4):
                    middleman.cut()
                    time.sleep(chance.uniform(0.0, 0.3))
                    victim = chance.choice(server_state(server)["workers"])["pid"]
                    if victim:
                        os.kill(victim, signal.SIGKILL)
                    until(lambda: all(one["pid"] for one in server_state(server)["workers"]))
                    until(talks.get_through, client.describe)
    assert "Traceback" not in server.stderr + client.stderr
