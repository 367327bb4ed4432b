"""A new process takes the place of a running client, and applications notice nothing."""

import hashlib
import http.client
import json
import random
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress

import pytest

from lane.address import Address, unpack
from lane.testing.harness import until
from tests.support.origin import CONTENT, MB, read_to_end
from tests.support.processes import (
    DEADLINE,
    breaks,
    connected,
    echoes,
    lasting_port,
    read_exactly,
    start_server,
    works,
)
from tests.support.udp_applications import Associated, UdpServer
from tests.support.upgrades import (
    DIES_WHEN_ASKED,
    client_process,
    connecting,
    control_of,
    has_ended,
    upgradable_client,
    upgrade_client,
    upgraded_client,
)
from tests.support.workers import on_linux

pytestmark = [on_linux, pytest.mark.bulk]


class Forwarded(socket.socket):
    """An application that sends to a forwarded port."""

    def __init__(self, port):
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.connect(("127.0.0.1", port))
        self.settimeout(0.5)

    def ask(self, question):
        """Send until the answer comes back."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            self.send(question)
            with suppress(TimeoutError):
                while self.recv(100) != question:
                    pass
                return
        raise AssertionError("no answer")


def bound(proxy):
    """A connection that waits for a peer (SOCKS BIND), and where that may connect."""
    sock = socket.create_connection(proxy, DEADLINE)
    sock.sendall(b"\x05\x01\x00\x05\x02\x00" + Address("127.0.0.1", 21).pack())
    assert read_exactly(sock, 5) == b"\x05\x00\x05\x00\x00"
    return sock, unpack(read_exactly(sock, 7))[0]


def lasting_ports(count):
    """As many different ones."""
    found = set()
    while len(found) < count:
        found.add(lasting_port())
    return found


@pytest.mark.parametrize(("transport", "times"), [("quic", 3), ("tls", 2), ("auto", 1)])
def test_connections_go_on(tmp_path, origin, transport, times):
    (port, packets, back), data = lasting_ports(3), random.Random(3).randbytes(8 * MB)
    with (
        UdpServer() as target,
        start_server(tmp_path / "server", "--allow-reverse", "*", "--allow-bind") as server,
        upgradable_client(
            tmp_path,
            transport,
            server.link,
            "--forward",
            f"tcp://127.0.0.1:{port}=127.0.0.1:{origin.echo},"
            f"udp://127.0.0.1:{packets}={Address(*target.address)}",
            "--reverse",
            f"tcp://127.0.0.1:{back}=127.0.0.1:{origin.echo}",
        ) as client,
        Associated(client.address) as association,
        Forwarded(packets) as forwarded,
        ExitStack() as held,
    ):
        upload, download, half, *chats = [
            held.enter_context(connected(client.address, where))
            for where in (origin.digest, origin.endless, origin.digest, *[origin.echo] * 20)
        ]
        chats.append(held.enter_context(socket.create_connection(("127.0.0.1", port))))
        until(lambda: f":{back} " in client.stderr, client.describe)
        chats.append(held.enter_context(socket.create_connection(("127.0.0.1", back))))
        half.sendall(b"x")
        half.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=lambda: (upload.sendall(data), upload.shutdown(socket.SHUT_WR)))
        sender.start()
        seen = 0
        for number in range(times):
            question = b"%d" % number
            while association.ask(target.address, question)[1] != question:
                pass  # an answer to an earlier one, which was asked twice
            forwarded.ask(question)
            waiting, where = bound(client.address)
            before = client_process(client)
            upgraded_client(client)
            until(lambda before=before: has_ended(before), client.describe)
            with waiting, socket.create_connection(where, DEADLINE) as peer:
                assert unpack(read_exactly(waiting, 10)[3:])[0] == Address(*peer.getsockname())
                peer.sendall(b"welcome")
                assert read_exactly(waiting, 7) == b"welcome"
            assert all(map(echoes, chats))
            at = seen % (10 * MB)
            assert read_exactly(download, MB) == CONTENT[at : at + MB]
            seen += MB
            for where in (port, back):
                with socket.create_connection(("127.0.0.1", where)) as more:
                    assert echoes(more)
        assert read_to_end(upload) == hashlib.sha256(data).hexdigest().encode() + data
        assert read_to_end(half) == hashlib.sha256(b"x").hexdigest().encode() + b"x"
        sender.join()
        assert len(target.peers) == 2


@pytest.mark.parametrize("transport", ["auto"])
def test_new_connections_are_never_refused(tmp_path, origin, transport):
    with (
        start_server(tmp_path / "server") as server,
        upgradable_client(tmp_path, transport, server.link) as client,
        connecting(client.address, origin.echo),
    ):
        upgraded_client(client)


def test_a_new_process_that_does_not_come_up_changes_nothing(tmp_path, origin):
    configuration = tmp_path / "client.conf"
    configuration.write_text("")
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    options = ("--config", configuration, "--plugin-dir", plugins)
    with (
        start_server(tmp_path / "server") as server,
        upgradable_client(tmp_path, "auto", server.link, *options) as client,
        connected(client.address, origin.echo) as sock,
    ):
        assert echoes(sock)
        before = client_process(client)
        for text, code, why in (
            ("nonsense = 1\n", "", "unknown key 'nonsense'"),
            (f"forward = tcp://127.0.0.1:{origin.echo}=127.0.0.1:1\n", "", "in use"),
            ("", "import os\nos._exit(7)\n", "exit status 7"),
            ("", "import os, threading\nthreading.Timer(1.5, os._exit, (9,)).start()\n", "has ended"),
            ("", DIES_WHEN_ASKED, "has ended"),
        ):
            configuration.write_text(text)
            (plugins / "fault.py").write_text(code)
            done = upgrade_client(client)
            assert done.returncode == 1
            assert why in done.stderr
            until(lambda: client_process(client) == before, client.describe)
            assert echoes(sock)
            until(lambda: works(client, origin), client.describe)
        configuration.write_text("")
        (plugins / "fault.py").unlink()
        upgraded_client(client)
        assert echoes(sock)


def test_what_cannot_go_along_stays_and_then_ends(tmp_path, origin):
    times = ("--upgrade-timeout", "3s", "--handshake-timeout", "5m")
    options = (*times, "--rule", f"direct 127.0.0.1:{origin.digest}")
    with (
        start_server(tmp_path / "server") as server,
        upgradable_client(tmp_path, "tls", server.link, *options) as client,
        connected(client.address, origin.echo) as sock,
        connected(client.address, origin.digest) as direct,
        socket.create_connection(client.address) as slow,
    ):
        slow.sendall(b"\x05\x01")
        before = client_process(client)
        said = upgraded_client(client)
        assert f"cannot go along: 2 (they stay in process {before}" in said
        until(lambda: has_ended(before), client.describe)
        assert "2 connections end here" in client.stderr
        assert echoes(sock)
        breaks(direct)
        breaks(slow)


def test_applications_between_two_requests_go_along(tmp_path, origin):
    with (
        start_server(tmp_path / "server") as server,
        upgradable_client(tmp_path, "tls", server.link) as client,
        socket.create_connection(client.address, DEADLINE) as silent,
        closing(http.client.HTTPConnection(*client.address, DEADLINE)) as kept,
    ):
        for number in range(2):
            kept.request("GET", f"http://127.0.0.1:{origin.web}/{number}/1000")
            assert kept.getresponse().read() == CONTENT[number : number + 1000]
            sock, before = kept.sock, client_process(client)
            assert "cannot go along" not in upgraded_client(client)
            until(lambda before=before: has_ended(before), client.describe)
            kept.request("GET", f"http://127.0.0.1:{origin.web}/5/1000")
            assert kept.getresponse().read() == CONTENT[5:1005]
            assert kept.sock is sock
        silent.sendall(b"\x05\x01\x00")
        assert read_exactly(silent, 2) == b"\x05\x00"


def test_which_one_is_upgraded_must_be_clear(tmp_path, run_lane):
    nobody = run_lane("upgrade", "--control", tmp_path / "nobody.sock")
    assert (nobody.returncode, nobody.stdout) == (69, "")
    assert "no client answers" in nobody.stderr
    with (
        start_server(tmp_path / "server") as server,
        upgradable_client(tmp_path, "tls", server.link) as client,
    ):
        state, control = tmp_path / "server" / "state", control_of(client)
        (tmp_path / "both.conf").write_text(f"state-dir = {state}\ncontrol = {control}\n")
        before = client_process(client)
        for options, why in (
            (("--config", tmp_path / "both.conf"), f"--state-dir {state} or --control {control}"),
            (("--state-dir", state, "--control", control), "names a server"),
            (("--control", "off"), "can't be asked"),
        ):
            done = run_lane("upgrade", *options)
            assert (done.returncode, done.stdout) == (2, "")
            assert why in done.stderr
        assert client_process(client) == before
        (tmp_path / "both.conf").write_text(f"state-dir = {tmp_path}\ncontrol = {control}\n")
        done = run_lane("upgrade", "--config", tmp_path / "both.conf", "--json")
        assert json.loads(done.stdout)["after"]["pid"] == client_process(client) != before
