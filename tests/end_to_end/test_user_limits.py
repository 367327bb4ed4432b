"""What users are held to by real lane processes. How exact that is, bench/users.py measures: here, nothing
depends on how fast the machine is, so a rate is what is never exceeded."""

import socket
import threading
import time
from contextlib import ExitStack

import pytest

from lane.link import encode
from lane.testing.harness import until
from lane.users.account import Account
from lane.users.redis_book import RedisBook
from tests.support.limited import Limited
from tests.support.origin import CONTENT, read_to_end
from tests.support.processes import (
    DEADLINE,
    TRANSPORTS,
    connected,
    lasting_port,
    read_exactly,
    sha256,
    start_client,
    start_server,
)
from tests.support.redis_server import RedisServer
from tests.support.udp_applications import Associated, UdpServer
from tests.support.workers import everywhere, on_linux

RATE = 400_000
SLACK = 0.3
"""Seconds of the rate that may be there at once: a full bucket, and a little."""


class Downloads:
    """Endless downloads in threads, and how many bytes came."""

    def __init__(self, origin, *clients):
        self.got, self._lock, self._socks = 0, threading.Lock(), []
        for client in clients:
            sock = connected(client.address, origin.endless)
            sock.settimeout(DEADLINE)
            self._socks.append(sock)
            threading.Thread(target=self._read, args=(sock,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in self._socks:
            sock.close()

    def _read(self, sock):
        try:
            while data := sock.recv(65536):
                with self._lock:
                    self.got += len(data)
        except OSError:
            pass

    def wait(self, size):
        """Wait for so many more bytes: the seconds that it took."""
        before, begin = self.got, time.monotonic()
        until(lambda: self.got - before >= size)
        return time.monotonic() - begin


class Together(Downloads):
    """Several of them."""

    def __init__(self, *downloads):
        self._downloads = downloads

    @property
    def got(self):
        return sum(each.got for each in self._downloads)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_downloads_of_a_user_keep_to_the_rate_together_and_a_change_is_live(tmp_path, origin, transport):
    limits = Limited(tmp_path / "limits", down=RATE)
    with (
        start_server(tmp_path / "server", *limits.options, env=limits.env) as server,
        start_client(tmp_path / "client", transport, server.link) as client,
        Downloads(origin, *[client] * 4) as downloads,
    ):
        assert downloads.wait(3 * RATE) >= 3 - SLACK
        limits.set(down=RATE / 4)
        downloads.wait(RATE / 4)  # what was on its way
        assert downloads.wait(RATE / 2) >= 2 - SLACK
        limits.set()
        downloads.wait(50 * RATE)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_upload_keeps_to_the_rate_and_arrives_whole(tmp_path, origin, transport):
    limits, data = Limited(tmp_path / "limits", up=RATE), CONTENT[: 2 * RATE]
    with (
        start_server(tmp_path / "server", *limits.options, env=limits.env) as server,
        start_client(tmp_path / "client", transport, server.link) as client,
        connected(client.address, origin.digest) as sock,
    ):
        begin = time.monotonic()
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(DEADLINE)
        assert read_exactly(sock, 64) == sha256(data).encode()
        assert time.monotonic() - begin >= 2 - SLACK
        assert sha256(read_to_end(sock)) == sha256(data)


@on_linux
def test_workers_keep_to_one_rate_together(tmp_path, origin):
    limits = Limited(tmp_path / "limits", down=RATE)
    server, links = everywhere(tmp_path / "server", *limits.options, env=limits.env)
    with (
        server,
        start_client(tmp_path / "near", "tls", links[0]) as near,
        start_client(tmp_path / "far", "quic", links[1]) as far,
        Downloads(origin, near, far, far) as downloads,
    ):
        downloads.wait(RATE / 4)
        assert downloads.wait(3 * RATE) >= 3 - SLACK


def test_servers_with_one_redis_keep_to_one_rate_together(tmp_path, origin):
    with (
        RedisServer(tmp_path / "redis", lasting_port()) as redis,
        start_server(tmp_path / "one", "--accounts", redis.url, "--workers", "2") as one,
        start_server(tmp_path / "two", "--accounts", redis.url) as two,
        ExitStack() as stack,
    ):
        book = RedisBook(redis.url)
        stack.callback(book.close)
        account = Account("Zoë 🎉", b"z" * 32, rate=RATE)
        book.add(account)
        clients = []
        for name, server in (("near", one), ("far", two)):
            until(lambda server=server: f"accounts that have changed: {account.name}" in server.stderr)
            link = server.wait_for("for clients: (lane://KEY@.*)")[1].replace("KEY", encode(account.key))
            clients.append(stack.enter_context(start_client(tmp_path / name, "tls", link)))
        near, far = (stack.enter_context(Downloads(origin, client, client)) for client in clients)
        both = Together(near, far)
        both.wait(2 * RATE)
        begin = near.got, far.got
        assert both.wait(4 * RATE) >= 4 - SLACK
        parts = [download.got - was for download, was in zip((near, far), begin, strict=True)]
        assert min(parts) > 0.6 * max(parts)
        redis.kill()
        assert both.wait(2 * RATE) >= 2 - SLACK  # as it was
        redis.start()
        far.__exit__()
        until(lambda: near.wait(RATE) < 1.2)  # it has all of the rate now
        assert near.wait(2 * RATE) >= 2 - SLACK


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_packets_beyond_the_rate_are_dropped_and_those_within_it_come(tmp_path, transport):
    limits = Limited(tmp_path / "limits", up=100_000, down=100_000)
    with (
        start_server(tmp_path / "server", *limits.options, env=limits.env) as server,
        start_client(tmp_path / "client", transport, server.link) as client,
        UdpServer() as target,
        Associated(client.address) as app,
    ):
        assert app.ask(target.address, b"hello")[1] == b"hello"
        begin = time.monotonic()
        for _ in range(2000):  # 2 MB, which take 20 s
            app.send(target.address, bytes(1000))
            time.sleep(0.0002)
        app.udp.settimeout(1.0)
        got = 0
        try:
            while True:
                got += len(app.recv()[1])
        except TimeoutError:
            pass
        assert 0 < got <= 100_000 * (time.monotonic() - begin + SLACK)
        assert got < 1_500_000


def test_a_quota_is_counted_down_while_a_download_runs(tmp_path, origin):
    limits = Limited(tmp_path / "limits", down=RATE, left=2 * RATE)
    with (
        start_server(tmp_path / "server", *limits.options, env=limits.env) as server,
        start_client(tmp_path / "client", "tls", server.link) as client,
        Downloads(origin, client) as downloads,
    ):
        downloads.wait(RATE / 2)
        assert limits.spent is None
        until(lambda: limits.spent)
        up, down = limits.spent
        assert up + down >= 2 * RATE
