"""Workers of a server that die, and their parent: what that costs, and what it never costs."""

import os
import select
import signal
import socket
from contextlib import ExitStack
from dataclasses import replace

import pytest

from lane.address import Address
from lane.link import Link
from lane.net.steering import worker_of
from lane.testing.harness import until
from tests.support.middleman import Middleman
from tests.support.origin import CONTENT, MB
from tests.support.processes import (
    DEADLINE,
    TRANSPORTS,
    breaks,
    connected,
    echoes,
    read_exactly,
    start_client,
    works,
)
from tests.support.upgrades import stop
from tests.support.workers import FAR, NEAR, everywhere, is_back, of, on_linux, status, workers

pytestmark = on_linux


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_worker_that_is_killed_costs_its_own_sessions(tmp_path, origin, transport):
    server, links = everywhere(tmp_path / "server")
    with (
        server,
        start_client(tmp_path / "near", transport, links[0]) as near,
        start_client(tmp_path / "far", transport, links[1]) as far,
        connected(near.address, origin.echo) as lost,
        connected(far.address, origin.echo) as kept,
        connected(far.address, origin.endless) as download,
    ):
        assert echoes(lost)
        assert echoes(kept)
        dead = of(server, NEAR)
        os.kill(dead["pid"], signal.SIGKILL)
        breaks(lost)
        assert echoes(kept)
        assert read_exactly(download, 5 * MB) == CONTENT[: 5 * MB]
        until(lambda: of(server, NEAR)["pid"] not in (0, dead["pid"]))
        assert of(server, NEAR)["restarts"] == 1
        assert of(server, FAR)["restarts"] == 0
        until(lambda: works(near, origin), near.describe)
        until(lambda: of(server, NEAR)["sessions"] == 0)
        assert of(server, FAR)["sessions"] == 2
        assert near.process.poll() is None
    assert "Traceback" not in near.stderr


def test_a_worker_that_dies_again_and_again_is_started_less_often(tmp_path):
    with workers(tmp_path) as server:
        for restarts in (1, 2, 3):
            os.kill(status(server)["workers"][0]["pid"], signal.SIGKILL)
            until(lambda so_far=restarts: is_back(server, so_far))
        assert server.stderr.count("worker 1 has ended (SIGKILL)") == 3
        assert server.stop() == 0


def gets_through(client, target):
    """Whether a new session reaches the target."""
    try:
        with connected(client.address, target.getsockname()[1]) as sock:
            sock.sendall(b"next")
            with target.accept()[0] as seen:
                return read_exactly(seen, 4) == b"next"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("elsewhere", "upgrades"),
    [(False, False), (True, False), (True, True)],
    ids=["its successor", "another worker", "another worker of the next process"],
)
def test_no_data_reach_a_target_twice(tmp_path, elsewhere, upgrades):
    """A worker dies after it has handed early data to the target, and before its client knows.

    The client asks again, with the data. Nobody who is asked then may begin the session anew.
    """
    sources = [f"127.0.0.{n}" for n in range(2, 30)]
    first = sources[0]
    other = next(one for one in sources if worker_of(one, 2) != worker_of(first, 2))
    with (
        socket.create_server((NEAR, 0)) as target,
        workers(tmp_path / "server") as server,
        ExitStack() as ending,
        Middleman(server.address, first) as middleman,
    ):
        link = replace(Link.parse(server.link), address=Address(*middleman.address))
        with start_client(tmp_path / "client", "tls", str(link), "--fast-open", "on") as client:
            port = target.getsockname()[1]
            with connected(client.address, port) as sock:  # so that the client knows its server's epoch
                sock.sendall(b"warm")
                with target.accept()[0] as seen:
                    assert read_exactly(seen, 4) == b"warm"
            middleman.deaf = True
            with connected(client.address, port) as sock:
                sock.sendall(b"once")
                seen = target.accept()[0]
                assert read_exactly(seen, 4) == b"once"
                if elsewhere:
                    middleman.source = other
                before = status(server)
                if upgrades:
                    os.kill(before["pid"], signal.SIGUSR2)
                    until(lambda: status(server)["pid"] != before["pid"], server.describe)
                    ending.callback(stop, server)
                os.kill(before["workers"][worker_of(first, 2)]["pid"], signal.SIGKILL)
                seen.close()
                middleman.deaf = False
                ready, _, _ = select.select([sock, target], [], [], DEADLINE)
                assert ready == [sock], "the data reach the target twice"
                breaks(sock)
            target.settimeout(0)
            with pytest.raises(BlockingIOError):
                target.accept()
            target.settimeout(DEADLINE)
            until(lambda: gets_through(client, target), client.describe)


def test_workers_end_with_their_parent(tmp_path):
    with workers(tmp_path) as server:
        children = status(server)["workers"]
        server.kill()
        until(lambda: not any(os.path.exists(f"/proc/{one['pid']}") for one in children))
