"""SIGHUP to real processes: sessions go on, and what the files say now counts for what begins."""

import contextlib
import io
import json
import os
import signal
import socket
from dataclasses import replace

import pytest
from lane_quic.plugin import QuicTransport
from lane_tls.plugin import TLSTransport

from lane import state
from lane.address import Address
from lane.certs import ServerIdentity, binding_of, new_identity
from lane.cli import main
from lane.link import Link, decode
from lane.testing.harness import until
from tests.support.origin import BIG, CONTENT, MB, Origin
from tests.support.processes import (
    TRANSPORTS,
    Lane,
    connected,
    echoes,
    read_exactly,
    running_pair,
    socks5,
    start_client,
    start_server,
)

BOB = b"b" * 32
NOT_ALLOWED = 2
DIAL = {"quic": QuicTransport, "tls": TLSTransport}


@pytest.fixture(scope="module")
def origin():
    with Origin() as origin:
        yield origin


def hang_up(*processes, log=None):
    """Send SIGHUP, and wait until all was read."""
    told = [(one, told_of(one, log)) for one in processes]
    for process in processes:
        process.process.send_signal(signal.SIGHUP)
    for process, before in told:
        until(lambda process=process, before=before: told_of(process, log) > before, process.describe)


def told_of(process, log):
    said = log.read_text() if log and log.exists() else process.stderr
    return said.count("read again on SIGHUP: ")


def code_of(client, port):
    sock, code = socks5(client.address, "127.0.0.1", port)
    sock.close()
    return code


class Seen:
    """A client that takes any certificate, and remembers it."""

    server_name = None

    def verify(self, chain):
        self.chain = chain
        return binding_of(chain[0])


def presented(transport, address):
    """The binding that a new connection is shown."""
    seen = Seen()
    carrier = DIAL[transport]().dial(Address(*address), seen)
    binding = carrier.binding
    carrier.close()
    return binding


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_transfer_goes_on(transport, origin, tmp_path):
    with running_pair(tmp_path, transport) as (server, client):
        with connected(client.address, origin.web) as web, connected(client.address, origin.echo) as echo:
            web.sendall(f"GET /0/{BIG} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += read_exactly(web, 1)
            assert read_exactly(web, MB) == CONTENT[:MB]
            hang_up(server, client)
            assert echoes(echo)
            assert read_exactly(web, BIG - MB) == CONTENT[MB:BIG]
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock)
        assert client.stop() == 0
        assert server.stop() == 0
        assert "WARNING" not in client.stderr + server.stderr


def client_of(transport, link):
    return "client", "--transport", transport, "--listen", "127.0.0.1:0", "--server", link


@pytest.mark.parametrize("own", [False, True])
def test_a_renewed_certificate_is_presented(own, origin, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def write(identity):
        cert.write_bytes(identity.chain_pem)
        key.touch(0o600)
        key.write_bytes(identity.key_pem)

    before, after = ServerIdentity.make(), new_identity()
    write(before)
    options = ["--cert", cert, "--cert-key", key] if own else []
    with start_server(tmp_path / "server", *options) as server:
        link = Link.parse(server.link)
        for transport in TRANSPORTS:
            assert presented(transport, server.address) == link.pin
        with (
            start_client(tmp_path / "quic", "quic", link) as quic,
            start_client(tmp_path / "tls", "tls", link) as tls,
            connected(quic.address, origin.echo) as over_quic,
            connected(tls.address, origin.echo) as over_tls,
        ):
            renewed = ServerIdentity.parse(after, tmp_path)
            if own:
                cert.write_bytes(renewed.chain_pem)
                hang_up(server)
                assert f"the certificate stayed as before: the key in {key} is not that of" in server.stderr
                assert presented("tls", server.address) == presented("quic", server.address) == link.pin
                write(renewed)
            else:
                (tmp_path / "server" / "state" / "identity.pem").write_bytes(after)
            hang_up(server)
            for transport in TRANSPORTS:
                assert presented(transport, server.address) == renewed.binding
                with start_client(tmp_path / "new", transport, replace(link, pin=renewed.binding)) as client:
                    assert code_of(client, origin.echo) == 0
            assert echoes(over_quic)
            assert echoes(over_tls)
            assert code_of(quic, origin.echo) == 0  # the connection of QUIC is from before
            assert code_of(tls, origin.echo) == 0
        assert "links from before work for a while (--cert-overlap)" in server.stderr
        for transport in TRANSPORTS:
            with start_client(tmp_path / "old", transport, link) as client:
                assert code_of(client, origin.echo) == 0
        assert server.stop() == 0
        with Lane(tmp_path / "server", *server.arguments).ready():
            for transport in TRANSPORTS:
                with start_client(tmp_path / "old", transport, link) as client:
                    assert code_of(client, origin.echo) == 0
        assert "Traceback" not in server.stderr


def test_rules_of_the_server(origin, tmp_path):
    conf = tmp_path / "conf"
    conf.write_text("allow = 127.0.0.0/8\n")
    options = ["-c", conf]
    with (
        start_server(tmp_path / "server", *options, allow=None) as server,
        start_client(tmp_path / "client", "tls", server.link, "--fast-open=off") as client,
        connected(client.address, origin.echo) as running,
    ):
        conf.write_text(f"allow = 127.0.0.0/8\ndeny = 127.0.0.1:{origin.echo}\nlisten = 127.0.0.1:1\n")
        hang_up(server)
        assert "changed, and takes a restart: --listen" not in server.stderr  # the command line wins
        assert code_of(client, origin.echo) == NOT_ALLOWED
        assert code_of(client, origin.web) == 0
        conf.write_text("allow = 127.0.0.0/8\nmax-sessions = 9\nallow-reverse = *\n")
        hang_up(server)
        assert "WARNING lane: SIGHUP: changed, and takes a restart: --max-sessions\n" in server.stderr
        assert code_of(client, origin.echo) == 0
        conf.write_text("deny = 127.0.0.0/8\nallow = 1.2.3\n")
        hang_up(server)
        assert "the configuration stayed as before" in server.stderr
        assert f"{conf}: allow: malformed rule '1.2.3'" in server.stderr
        assert code_of(client, origin.echo) == 0
        assert echoes(running)
        running.close()
        assert client.stop() == 0
        assert server.stop() == 0


@pytest.mark.parametrize("command", ["server", "client"])
def test_the_log_file_that_was_moved(command, tmp_path):
    log, moved = tmp_path / "lane.log", tmp_path / "lane.log.1"
    state_dir = ["--state-dir", tmp_path / "state"] if command == "server" else []
    with Lane(tmp_path, command, "--listen=127.0.0.1:0", "--log-file", log, *state_dir) as lane:
        lane.ready()
        log.rename(moved)
        hang_up(lane, log=log)
        assert "read again" not in moved.read_text()
        size = moved.stat().st_size
        hang_up(lane, log=log)
        assert moved.stat().st_size == size
        held = [fd for fd in open_files(lane) if fd.startswith(str(moved))]
        assert held == []
        assert lane.stop() == 0


def open_files(lane):
    folder = f"/proc/{lane.process.pid}/fd"
    return [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]


def test_the_password_of_applications(origin, tmp_path):
    auth = tmp_path / "auth"
    auth.touch(0o600)
    auth.write_text("me:one\n")
    with Lane(tmp_path, "client", "--listen=127.0.0.1:0", "--auth", f"@{auth}") as client:
        client.ready()
        assert logs_in(client, b"one", origin.echo)
        auth.write_text("me:two\n")
        hang_up(client)
        assert logs_in(client, b"two", origin.echo)
        assert not logs_in(client, b"one", origin.echo)
        auth.write_text("nonsense")
        hang_up(client)
        assert f"{auth}: expected USER:PASSWORD" in client.stderr
        assert logs_in(client, b"two", origin.echo)
        assert client.stop() == 0


def logs_in(client, password, port):
    """RFC 1929."""
    with socket.create_connection(client.address) as sock:
        sock.sendall(b"\x05\x01\x02\x01\x02me" + bytes([len(password)]) + password)
        assert read_exactly(sock, 2) == b"\x05\x02"
        return read_exactly(sock, 2) == b"\x01\x00"


def test_a_client_with_the_server_in_its_process(origin, tmp_path):
    with (
        Lane(tmp_path, "client", "--listen=127.0.0.1:0", "--log-level=debug") as client,
        connected(client.ready().address, origin.echo) as sock,
    ):
        hang_up(client)
        assert echoes(sock)
        assert code_of(client, origin.echo) == 0
        sock.close()
        assert client.stop() == 0
        assert "WARNING" not in client.stderr


def test_many_at_once(origin, tmp_path):
    """The newest counts; none is lost, and nothing grows."""
    with start_server(tmp_path / "server") as server, start_client(tmp_path, "quic", server.link) as client:
        for _ in range(200):
            server.process.send_signal(signal.SIGHUP)
        hang_up(server)
        assert code_of(client, origin.echo) == 0
        assert server.stop() == 0
        assert "Traceback" not in server.stderr


def test_what_can_not_be_read(tmp_path):
    with start_server(tmp_path / "server") as server:
        kept = tmp_path / "server" / "state"
        (kept / "identity.pem").unlink()
        hang_up(server)
        assert f"the certificate stayed as before: cannot read {kept / 'identity.pem'}" in server.stderr
        assert presented("tls", server.address) == decode(server.link.partition("pin=")[2])
        assert server.stop() == 0


def test_nothing_of_it_makes_state(tmp_path):
    with start_server(tmp_path / "server") as server:
        before = state.look(tmp_path / "server" / "state")
        hang_up(server)
        assert state.look(tmp_path / "server" / "state") == before
        assert server.stop() == 0


def test_a_certificate_without_an_overlap_ends_the_links_from_before(tmp_path):
    with start_server(tmp_path / "server", "--cert-overlap", "0s") as server:
        (tmp_path / "server" / "state" / "identity.pem").write_bytes(new_identity())
        hang_up(server)
        assert "links from before do not work any more" in server.stderr
        with Lane(tmp_path, *client_of("tls", server.link)) as client:
            assert client.ended() == 77


def reload(*options):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = main(["reload", *map(str, options)])
    return status, said.getvalue()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_command_says_what_came_of_it(tmp_path, origin, workers):
    conf, state_dir = tmp_path / "conf", tmp_path / "server" / "state"
    conf.write_text("deny = 192.0.2.1\n")
    with (
        start_server(tmp_path / "server", "-c", conf, "--workers", workers) as server,
        start_client(tmp_path / "client", "tls", server.link) as client,
        connected(client.address, origin.echo) as running,
    ):
        status, said = reload("--state-dir", state_dir)
        assert (status, said.splitlines()[0]) == (0, said.strip())
        assert said.startswith("read again: the configuration, the accounts, the certificate")
        conf.write_text("deny = 192.0.2.2\nmax-sessions = 7\n")
        status, said = reload("--state-dir", state_dir)
        assert "changed, and takes a restart: --max-sessions" in said
        conf.write_text("deny = nonsense/99\n")
        status, said = reload("--state-dir", state_dir, "--json")
        assert status == 78
        assert "the configuration stayed as before: " in json.loads(said)["kept"][0]
        status, said = reload("--client", "--listen", "{}:{}".format(*client.address))
        assert (status, said) == (0, "read again: the configuration\n")
        assert echoes(running)


def test_the_command_without_a_server(tmp_path, capsys):
    assert main(["reload", "--state-dir", str(tmp_path)]) == 69
    assert "no server answers at" in capsys.readouterr().err
