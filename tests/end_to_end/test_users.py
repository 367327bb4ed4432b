"""The accounts of a running server: changes count at once, and users are told why they are sent away."""

import time
from dataclasses import replace

import pytest

from lane import state
from lane.link import Link
from lane.testing.harness import until
from lane.users.account import Account
from tests.support.processes import (
    TRANSPORTS,
    breaks,
    connected,
    echoes,
    socks5,
    start_client,
    start_server,
    works,
)

BOB = Account("Bob 🎉", b"b" * 32)
SLOW = ("--fast-open=off",)


@pytest.fixture
def server(tmp_path):
    with start_server(tmp_path / "server") as server:
        server.accounts = state.open_accounts(tmp_path / "server" / "state")
        yield server
        server.accounts.close()


def come(server, folder, transport, account, *options):
    """A client of the account that is ready."""
    link = replace(Link.parse(server.link), key=account.key)
    return start_client(folder, transport, link, *SLOW, *options)


def add(server, account):
    """Add an account, and wait until the server knows."""
    server.accounts.add(account)
    until(lambda: f"accounts that have changed: {account.name}" in server.stderr)


def code_of(client, port):
    """The reply code of an attempt to connect."""
    sock, code = socks5(client.address, "127.0.0.1", port)
    sock.close()
    return code


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("change", "reason", "later"),
    [
        (lambda accounts: accounts.change(BOB.name, disabled=True), "your account is disabled", 2),
        (lambda accounts: accounts.change(BOB.name, expires=time.time()), "your account has expired", 2),
        (lambda accounts: accounts.remove(BOB.name), "your account was removed", 1),
        (lambda accounts: accounts.kick(BOB.name), "the administrator has ended your sessions", 0),
    ],
    ids=["disabled", "expired", "removed", "kicked"],
)
def test_a_user_is_sent_away_and_told_why(server, tmp_path, origin, transport, change, reason, later):
    add(server, BOB)
    with (
        start_client(tmp_path / "other", transport, server.link) as their,
        come(server, tmp_path / "bob", transport, BOB) as client,
        connected(their.address, origin.echo) as going_on,
        connected(client.address, origin.echo) as running,
    ):
        assert echoes(going_on)
        assert echoes(running)
        change(server.accounts)
        breaks(running)
        until(lambda: reason in client.stderr, client.describe)
        assert echoes(going_on)
        assert reason not in their.stderr
        if later == 0:
            until(lambda: works(client, origin), client.describe)
        else:
            assert code_of(client, origin.echo) == later, client.describe()
        with connected(their.address, origin.echo) as sock:
            assert echoes(sock)
