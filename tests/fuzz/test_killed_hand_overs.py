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
FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
SEEDS = range(50 if FUZZ else 1)
DEATHS = 4 if FUZZ else 2
"""Of workers in a row. Each takes longer to come back than the one before."""
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
            if server_state(server) is not None:
                stop(server)
        assert "Traceback" not in server.stderr


class Succession:
    """A new process that takes the place of the one that `now` tells, up to a random moment."""

    def __init__(self, now, chance):
        self.old = now()
        children = psutil.Process(self.old).children
        before = children()
        os.kill(self.old, signal.SIGUSR2)
        (self.new,) = until(lambda: [one.pid for one in children() if one not in before])
        self.serves = chance.random() > 0.2
        if self.serves:
            until(lambda: now() == self.new)
            time.sleep(chance.uniform(0.0, 2.0) if chance.random() < 0.2 else chance.uniform(*MOVING))
        else:  # it may just start
            time.sleep(chance.uniform(0.0, 1.0))

    def kill(self, victim):
        """Kill "old" or "new"."""
        os.kill(getattr(self, victim), signal.SIGKILL)

    @property
    def over(self):
        """Whether neither is there any more: the new one was killed after the old one's end, or too early."""
        return has_ended(self.old) and has_ended(self.new)

    def settle(self, victim, talks, describe):
        """Wait until connections get through again. Whoever was not killed, and served, must be there."""
        until(lambda: talks.get_through() or self.over, describe)
        assert not (self.over and victim == "old" and self.serves)


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
            succession = Succession(lambda: server_process(server), chance)
            if victim == "client":
                client.kill()
                until(lambda: (server_state(server) or {}).get("sessions") == 0, server.describe)
            else:
                succession.kill(victim)
                succession.settle(victim, talks, client.describe)
        if victim == "new" and "takes the place" not in server.stderr:
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
            succession = Succession(lambda: client_process(client), chance)
            succession.kill(victim)
            succession.settle(victim, talks, client.describe)


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
                for _ in range(DEATHS):
                    middleman.cut()
                    time.sleep(chance.uniform(0.0, 0.3))
                    victim = chance.choice(server_state(server)["workers"])["pid"]
                    if victim:
                        os.kill(victim, signal.SIGKILL)
                    until(lambda: all(one["pid"] for one in server_state(server)["workers"]))
                    until(talks.get_through, client.describe)
    assert "Traceback" not in server.stderr + client.stderr
