"""Many users at once on two servers with one Redis, and two administrators at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import time

import gevent
from gevent.event import Event
from gevent.pool import Group
from lane_tls.plugin import TLSTransport

from lane import state
from lane.address import Address
from lane.carriers.connector import TunnelConnector
from lane.carriers.session_driver import SessionDeadlines
from lane.carriers.upstream import Upstream, make_paths
from lane.certs import PinnedTLS
from lane.link import Link, encode
from lane.session.registry import Registry
from lane.testing.harness import until
from lane.users.account import Account
from lane.users.redis_book import RedisBook
from tests.support.processes import DEADLINE, lasting_port, start_server
from tests.support.redis_server import RedisServer

USERS = 200
MB = 1 << 20
FIRST, SECOND = 10_000, 7_000
"""Bytes that each user sends, and a little more for some: before Redis is away, and while it is."""


class Client:
    """A lane client of `account` in this process, which exchanges bytes with an echo."""

    def __init__(self, account, link, target, registry):
        upstream = Upstream(link.address, PinnedTLS(link.pin), account.key)
        paths = make_paths([TLSTransport()], upstream, DEADLINE, registry)
        connector = TunnelConnector(paths, registry, SessionDeadlines(DEADLINE, DEADLINE))
        self._connection = connector.connect(target)
        self._stream = self._connection.begin()

    def exchange(self, size):
        self._stream.sendall(bytes(size))
        while size:
            size -= len(self._stream.recv(size))

    def close(self):
        self._stream.close()
        self._connection.abort()


def test_usage_of_many_users_on_two_servers_counts_once_though_redis_is_killed(tmp_path, origin):
    accounts = [Account(f"user {number}", number.to_bytes(32, "big")) for number in range(1, USERS + 1)]
    with RedisServer(tmp_path / "redis", lasting_port()) as redis, ExitStack() as stack:
        book = RedisBook(redis.url)
        stack.callback(book.close)
        for account in accounts:
            book.add(account)
        one = stack.enter_context(start_server(tmp_path / "one", "--accounts", redis.url, "--workers", "2"))
        two = stack.enter_context(start_server(tmp_path / "two", "--accounts", redis.url))
        links = [
            Link.parse(
                server.wait_for("for clients: (lane://KEY@.*)")[1].replace("KEY", encode(accounts[0].key))
            )
            for server in (one, two)
        ]
        registry, target = Registry(MB, 64 * MB, 600.0, 1000, 1000), Address("127.0.0.1", origin.echo)
        away, moved = Event(), {}

        def use(number, account):
            client = Client(account, links[number % 2], target, registry)
            client.exchange(FIRST + number)
            away.wait(DEADLINE)
            client.exchange(SECOND + number)
            client.close()
            moved[account.name] = FIRST + SECOND + 2 * number

        users = Group()
        for number, account in enumerate(accounts):
            users.start(gevent.Greenlet(use, number, account))
        until(lambda: any(used.up for used in book.spent(time(), [accounts[-1].name]).values()))
        redis.kill()
        away.set()
        users.join(DEADLINE)
        assert len(moved) == USERS
        for server in (one, two):
            until(lambda server=server: "what users have used waits" in server.stderr, server.describe)
        redis.start()
        names = [account.name for account in accounts]
        until(lambda: {name: used.up for name, used in book.spent(time(), names).items()} == moved)
        assert {name: used.down for name, used in book.spent(time(), names).items()} == moved
        one.stop()
        two.stop()
        assert {name: used.up for name, used in book.spent(time(), names).items()} == moved
        assert "Traceback" not in one.stderr + two.stderr


def test_administrators_at_once_do_not_mix_their_changes(tmp_path):
    folder = tmp_path / "state"

    def run(*words):
        command = [sys.executable, "-m", "lane", "user", *words, "--state-dir", folder, "--json"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with start_server(tmp_path) as server, ThreadPoolExecutor(4) as admins:
        host = ("--host", f"127.0.0.1:{server.address[1]}")
        added = [*admins.map(lambda number: run("add", f"u{number % 4}", *host), range(8))]
        assert sorted(done.returncode for done in added) == [0] * 4 + [2] * 4, added
        assert all("already" in done.stderr for done in added if done.returncode), added
        changes = [("--quota", "1GB"), ("--rate", "8mbit"), ("--devices", "3"), ("--note", "n")]
        assert not any(done.returncode for done in admins.map(lambda one: run("set", "u1", *one), changes))
        accounts = state.open_accounts(folder)
        found = accounts.get("u1")
        assert (found.quota, found.rate, found.devices, found.note) == (1 << 30, 1_000_000, 3, "n")
        assert len({account.key for account in accounts.all()}) == 5
        accounts.close()
        until(lambda: all(f"u{number}" in server.stderr for number in range(4)))
