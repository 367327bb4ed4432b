"""The accounts of a running server: changes count at once, and users are told why they are sent away."""

import base64
import contextlib
import hashlib
import hmac
import io
import json
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lane import cli, state
from lane.link import Link, encode
from lane.testing.harness import until
from lane.users.account import Account
from tests.support.processes import (
    TRANSPORTS,
    Lane,
    breaks,
    connected,
    echoes,
    lasting_port,
    socks5,
    start_client,
    start_server,
    works,
)
from tests.support.redis_server import RedisServer

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


def lane_user(server, *argv):
    """Run a command with `--json` on the state folder of the server: what it says."""
    said = io.StringIO()
    words = argv[:1] if argv[0] == "kick" else ("user", *argv[:1])
    folder = server.arguments[server.arguments.index("--state-dir") + 1]
    with contextlib.redirect_stdout(said):
        assert cli.main([*words, "--json", "--state-dir", folder, *argv[1:]]) == 0
    return json.loads(said.getvalue())


def online(server, name):
    """The devices and sessions of a user, as `lane user list` has them."""
    (found,) = (one for one in lane_user(server, "list") if one["name"] == name)
    return found["online"], found["online_sessions"]


@pytest.mark.parametrize("workers", ["2"])
def test_commands_count_at_once(tmp_path, origin, workers):
    with start_server(tmp_path / "server", "--workers", workers) as server:
        host = ("--host", f"127.0.0.1:{server.address[1]}")
        link = lane_user(server, "add", "Zoë", *host)["link"]
        with (
            start_client(tmp_path / "zoe", "tls", link, *SLOW) as client,
            start_client(tmp_path / "other", "quic", server.link, *SLOW) as other,
            connected(other.address, origin.echo) as going_on,
        ):
            with connected(client.address, origin.echo) as running:
                assert echoes(running)
                assert online(server, "Zoë") == (1, 1)
                assert lane_user(server, "kick", "Zoë") == {"name": "Zoë", "sessions": 1, "devices": 1}
                breaks(running)
            until(lambda: online(server, "Zoë")[1] == 0)
            until(lambda: works(client, origin))
            lane_user(server, "disable", "Zoë")
            until(lambda: code_of(client, origin.echo) == 2)
            lane_user(server, "enable", "Zoë")
            until(lambda: works(client, origin))
            new = lane_user(server, "rotate-key", "Zoë", *host)["link"]
            until(lambda: code_of(client, origin.echo) == 1)
            with start_client(tmp_path / "new", "tls", new, *SLOW) as again:
                assert works(again, origin)
                lane_user(server, "set", "Zoë", "--expires", "2020-01-01")
                until(lambda: code_of(again, origin.echo) == 2)
                late = Lane(tmp_path / "late", "client", "--listen", "127.0.0.1:0", "--server", new)
                assert late.ended() == 77
                assert "the server refused: your account has expired" in late.stderr
            lane_user(server, "remove", "Zoë")
            assert echoes(going_on)
            assert "Traceback" not in server.stderr


def test_links_from_before_there_were_accounts_keep_working(tmp_path, origin):
    folder = tmp_path / "server" / "state"
    folder.parent.mkdir()
    state.keep(folder)
    (folder / "accounts.db").unlink()
    (folder / "keys").write_text(f"anna {encode(b'a' * 32)}\nbob {encode(b'b' * 32)}\n")
    (folder / "keys").chmod(0o600)
    for first in (True, False):
        with start_server(tmp_path / "server") as server:
            assert ("was taken over: its 2 users are in accounts.db now" in server.stderr) == first
            for key in (b"a" * 32, b"b" * 32):
                link = replace(Link.parse(server.link), key=key)
                with start_client(tmp_path / "client", "tls", link) as client:
                    assert works(client, origin)


@pytest.mark.parametrize("transport", ["tls"])
def test_devices_are_clients_and_not_addresses(server, tmp_path, origin, transport):
    add(server, replace(BOB, devices=1))
    with come(server, tmp_path / "one", transport, BOB) as one:
        assert works(one, origin)
        second = ["--transport", transport, "--listen", "127.0.0.1:0"]
        link = replace(Link.parse(server.link), key=BOB.key)
        refused = Lane(tmp_path / "two", "client", *second, "--server", link)
        assert refused.ended() == 77
        assert "the server refused: your account allows 1 device at once" in refused.stderr
        assert works(one, origin)
    # The first one was killed, so the server may take a while to notice.
    with Lane(tmp_path / "three", "client", *second, "--no-check", *SLOW, "--server", link).ready() as other:
        until(lambda: works(other, origin), other.describe)


def test_sessions_are_limited(server, tmp_path, origin):
    add(server, replace(BOB, sessions=2))
    with come(server, tmp_path / "bob", "tls", BOB) as client:
        with connected(client.address, origin.echo) as one, connected(client.address, origin.echo) as other:
            assert echoes(one)
            assert echoes(other)
            assert code_of(client, origin.echo) == 2
            until(lambda: "your account allows 2 sessions at once" in client.stderr)
        until(lambda: code_of(client, origin.echo) == 0)


LDAP = """
from lane import hookimpl
from lane.users.account import Account
from lane.users.book import Changes
from lane.users.directory import Directory

def search(where):
    with open(where.removeprefix("ldap://")) as file:
        return [line.split() for line in file]

@hookimpl
def lane_accounts(where, state_dir):
    if not where.startswith("ldap://"):
        return None

    def changes(since):
        found = {name: Account(name, bytes.fromhex(key)) for name, key in search(where)}
        return Changes(0, found, whole=True)

    return Directory(changes, period=0.1)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_strangers_accounts(tmp_path, origin, workers):
    folder, people = tmp_path / "plugins", tmp_path / "people"
    folder.mkdir(mode=0o700)
    (folder / "lane_ldap.py").write_text(LDAP)
    people.write_text(f"bob {BOB.key.hex()}\n")
    options = ("--plugin-dir", folder, "--accounts", f"ldap://{people}", "--workers", workers)
    with start_server(tmp_path / "server", *options) as server:
        link = server.wait_for("for clients: (lane://.*)")[1].replace("KEY", encode(BOB.key))
        with start_client(tmp_path / "bob", "tls", link, *SLOW) as client:
            with connected(client.address, origin.echo) as sock:
                assert echoes(sock)
                people.write_text("")
                breaks(sock)
            until(lambda: "your account was removed" in client.stderr)
        people.unlink()
        until(lambda: "the look for changes of accounts failed in the plugin lane_ldap" in server.stderr)


def test_accounts_that_nobody_knows(tmp_path):
    arguments = ["--state-dir", tmp_path / "state", "--listen", "127.0.0.1:0", "--accounts", "ldap://x"]
    server = Lane(tmp_path, "server", *arguments)
    assert server.ended() == 2
    assert "--accounts ldap://x: no such accounts are known here (lane plugins)" in server.stderr


class Panel(BaseHTTPRequestHandler):
    """A panel's side of Hysteria's HTTP authentication. `server.users`: names by `auth`."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.server.users.get(request["auth"], "")
        self.server.asked.append(request)
        answer = json.dumps({"ok": bool(name), "id": name}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def panel():
    with ThreadingHTTPServer(("127.0.0.1", 0), Panel) as panel:
        panel.users, panel.asked = {}, []
        panel.url = f"http://127.0.0.1:{panel.server_port}/auth"
        thread = threading.Thread(target=panel.serve_forever)
        thread.start()
        yield panel
        panel.shutdown()
        thread.join()


@pytest.mark.parametrize("transport", ["tls"])
def test_a_panel_has_the_accounts(panel, tmp_path, origin, transport):
    with start_server(tmp_path / "server", "--accounts", panel.url) as server:
        link = server.wait_for("for clients: (lane://.*)")[1].replace("KEY", encode(BOB.key))
        pin = link.partition("pin=")[2]
        binding = base64.urlsafe_b64decode(f"{pin}=")  # as docs/USERS.md says
        auth = hmac.new(BOB.key, b"lane/1" + binding, hashlib.sha256).hexdigest()
        stranger = Lane(tmp_path / "no", "client", "--listen", "127.0.0.1:0", "--server", link)
        assert stranger.ended() == 77
        panel.users[auth] = BOB.name
        until(lambda: works_once(tmp_path / "bob", transport, link, origin))
        with start_client(tmp_path / "again", transport, link, *SLOW) as client:
            for _ in range(5):
                assert works(client, origin)
        assert {request["auth"] for request in panel.asked} == {auth}
        assert len(panel.asked) < 10
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            folder = str(tmp_path / "server" / "state")
            assert cli.main(["user", "list", "--state-dir", folder, "--accounts", panel.url]) == 78
        assert "the accounts of this server are elsewhere" in said.getvalue()


def works_once(folder, transport, link, origin):
    """Whether a new client gets through."""
    client = Lane(folder, "client", "--transport", transport, "--listen", "127.0.0.1:0", "--server", link)
    with client:
        until(lambda: client.process.poll() is not None or "listening on" in client.stdout)
        return client.process.poll() is None and works(client.ready(), origin)


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "forgotten"])
def test_two_servers_share_a_redis_that_is_killed_and_started_again(tmp_path, origin, keeps):
    with (
        RedisServer(tmp_path / "redis", lasting_port(), keeps=keeps) as redis,
        start_server(tmp_path / "one", "--accounts", redis.url, "--workers", "2") as one,
        start_server(tmp_path / "two", "--accounts", redis.url) as two,
        contextlib.ExitStack() as stack,
    ):
        clients, running = [], []
        added = lane_user(one, "add", BOB.name, "--accounts", redis.url, "--devices", "9")
        key = Link.parse(added["link"]).key
        for number, (server, transport) in enumerate(((one, "tls"), (two, "quic"))):
            link = server.wait_for("for clients: (lane://.*)")[1].replace("KEY", encode(key))
            until(lambda number=number, link=link: works_once(tmp_path / f"try{number}", "tls", link, origin))
            client = start_client(tmp_path / f"client{number}", transport, link, *SLOW)
            clients.append(stack.enter_context(client))
            running.append(stack.enter_context(connected(client.address, origin.echo)))
        redis.kill()
        for server, client, sock in zip((one, two), clients, running, strict=True):
            until(lambda server=server: "accounts stay as they are: redis at" in server.stderr)
            assert echoes(sock)
            assert works(client, origin)
        redis.start()
        for server, client, sock in zip((one, two), clients, running, strict=True):
            until(lambda server=server: "accounts can be read again" in server.stderr)
            assert echoes(sock)
            assert works(client, origin)
        assert [user["name"] for user in lane_user(two, "list", "--accounts", redis.url)] == [BOB.name]
        lane_user(two, "disable", BOB.name, "--accounts", redis.url)
        for client, sock in zip(clients, running, strict=True):
            breaks(sock)
            until(lambda client=client: "your account is disabled" in client.stderr)
        assert "Traceback" not in one.stderr + two.stderr


def test_a_redis_that_is_not_there_is_a_clear_error(tmp_path):
    url = f"redis://127.0.0.1:{lasting_port()}/0"
    server = Lane(tmp_path, "server", "--state-dir", tmp_path / "state", "--accounts", url)
    assert server.ended() == 78
    assert "lane: redis at 127.0.0.1: " in server.stderr
    assert server.stderr.count("\n") == 1
