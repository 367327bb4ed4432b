"""Sessions that go from one process of a server to another, because their clients come back there."""

import hashlib
import itertools
import random
import socket
import threading
from dataclasses import replace

import pytest

from lane.address import Address
from lane.link import Link
from lane.testing.harness import until
from tests.support.middleman import Middleman
from tests.support.origin import CONTENT, MB, read_to_end
from tests.support.processes import DEADLINE, connected, echoes, lasting_port, read_exactly, start_client
from tests.support.udp_applications import Associated, UdpServer
from tests.support.workers import on_linux, status, workers

pytestmark = on_linux
CUTS = 6
ALL = ("--allow-reverse", "127.0.0.1:*", "--allow-bind", "--resume-grace", "1h")


@pytest.fixture
def moving(tmp_path):
    """A client over TLS of a server of four workers, behind somebody who cuts its connections."""
    with (
        workers(tmp_path / "server", "--spread", "connection", *ALL, count=4) as server,
        Middleman(server.address, "127.0.0.1") as middleman,
    ):
        link = replace(Link.parse(server.link), address=Address(*middleman.address))

        def start(*options):
            return start_client(tmp_path / "client", "tls", str(link), *options)

        yield server, middleman, start


def cuts(seen):
    """Count cuts until two workers were `seen`: it is chance. All 30 at one worker: 4 ** -29."""
    return itertools.takewhile(lambda number: number < CUTS or len(seen) < 2, range(30))


def processes_of(server):
    """How many sessions each worker has."""
    return [one["sessions"] for one in status(server)["workers"]]


def test_bytes_are_exact_wherever_a_client_comes_back(moving, origin):
    server, middleman, start = moving
    with start() as client:
        data = random.Random(7).randbytes(8 * MB)
        with (
            connected(client.address, origin.digest) as upload,
            connected(client.address, origin.endless) as download,
            connected(client.address, origin.echo) as idle,
            connected(client.address, origin.digest) as half,
        ):
            half.sendall(b"x")
            half.shutdown(socket.SHUT_WR)
            assert echoes(idle)
            sender = threading.Thread(target=lambda: (upload.sendall(data), upload.shutdown(socket.SHUT_WR)))
            sender.start()
            seen, size = set(), 0
            for _ in range(CUTS):
                part = read_exactly(download, MB)
                at = size % (10 * MB)
                assert part == CONTENT[at : at + MB]
                size += MB
                middleman.cut()
                assert echoes(idle)
                seen |= {number for number, count in enumerate(processes_of(server)) if count}
            assert read_to_end(upload) == hashlib.sha256(data).hexdigest().encode() + data
            assert read_to_end(half) == hashlib.sha256(b"x").hexdigest().encode() + b"x"
            sender.join()
            assert len(seen) > 1  # by chance all came to one worker: 4 ** -36
        until(lambda: not any(processes_of(server)))
    assert "Traceback" not in server.stderr + client.stderr
    assert "restarts" not in server.stderr


def test_an_association_keeps_its_port(moving):
    server, middleman, start = moving
    seen = set()
    with UdpServer() as target, start() as client, Associated(client.address) as application:
        for number in cuts(seen):
            question = b"%d" % number
            while application.ask(target.address, question)[1] != question:
                pass  # an answer to an earlier one, which was asked twice
            middleman.cut()
            seen |= {worker for worker, count in enumerate(processes_of(server)) if count}
        assert len(target.peers) == 1
        assert len(seen) > 1
    assert "Traceback" not in server.stderr + client.stderr


def test_a_port_of_a_reverse_forward_stays_open(moving, origin):
    server, middleman, start = moving
    port, seen = lasting_port(), set()
    with start("--reverse", f"tcp://127.0.0.1:{port}=127.0.0.1:{origin.echo}") as client:
        until(lambda: f":{port} " in client.stderr, client.describe)
        held = [until(lambda: came(port), client.describe)]
        for _ in cuts(seen):
            middleman.cut()
            held.append(until(lambda: came(port), client.describe))
            assert all(map(echoes, held))
            seen |= {worker for worker, count in enumerate(processes_of(server)) if count}
        assert len(seen) > 1
        for sock in held:
            sock.close()
    assert "Traceback" not in server.stderr + client.stderr


def came(port):
    """A connection to a port of a reverse forward through which an echo has come; None without one."""
    sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
    if echoes(sock):
        return sock
    sock.close()
    return None
