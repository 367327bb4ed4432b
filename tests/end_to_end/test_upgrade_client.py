"""A new process takes the place of a running client, and applications notice nothing."""

import hashlib
import random
import socket
import threading
from contextlib import ExitStack

import pytest

from lane.testing.harness import until
from tests.support.origin import CONTENT, MB, read_to_end
from tests.support.processes import connected, echoes, lasting_port, read_exactly, start_server
from tests.support.upgrades import client_process, has_ended, upgradable_client, upgraded_client
from tests.support.workers import on_linux

pytestmark = [on_linux, pytest.mark.bulk]


@pytest.mark.parametrize("transport", ["quic", "tls", "auto"])
def test_connections_go_on(tmp_path, origin, transport):
    port, data = lasting_port(), random.Random(3).randbytes(8 * MB)
    forward = f"tcp://127.0.0.1:{port}=127.0.0.1:{origin.echo}"
    with (
        start_server(tmp_path / "server") as server,
        upgradable_client(tmp_path, transport, server.link, "--forward", forward) as client,
        ExitStack() as held,
    ):
        upload, download, half, *chats = [
            held.enter_context(connected(client.address, where))
            for where in (origin.digest, origin.endless, origin.digest, *[origin.echo] * 20)
        ]
        chats.append(held.enter_context(socket.create_connection(("127.0.0.1", port))))
        half.sendall(b"x")
        half.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=lambda: (upload.sendall(data), upload.shutdown(socket.SHUT_WR)))
        sender.start()
        seen = 0
        for _ in range(3):
            before = client_process(client)
            upgraded_client(client)
            until(lambda before=before: has_ended(before), client.describe)
            assert all(map(echoes, chats))
            at = seen % (10 * MB)
            assert read_exactly(download, MB) == CONTENT[at : at + MB]
            seen += MB
            with socket.create_connection(("127.0.0.1", port)) as more:
                assert echoes(more)
        assert read_to_end(upload) == hashlib.sha256(data).hexdigest().encode() + data
        assert read_to_end(half) == hashlib.sha256(b"x").hexdigest().encode() + b"x"
        sender.join()
