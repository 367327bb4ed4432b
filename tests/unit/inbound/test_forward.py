"""Local ports that stand for one target: everything arrives, and a failure is never a clean end."""

import re
from functools import partial
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from gevent.pool import Pool

from lane.address import Address
from lane.errors import Closed, Status, TargetError
from lane.inbound import Inbound, forward
from lane.testing.harness import until
from tests.support.inbound import TARGET, Direct, dial, is_reset, raising, to_end
from tests.support.origin import CONTENT, MB, Origin, read_to_end
from tests.support.processes import TRANSPORTS, connected, running_pair


def forwarding(connect, target=TARGET, max_sessions=10):
    serve = partial(forward.serve, connector=SimpleNamespace(connect=connect), target=target)
    inbound = Inbound(Address("127.0.0.1", 0), serve, Pool(max_sessions))
    inbound.start()
    return inbound


@pytest.mark.parametrize("error", [TargetError(Status.REFUSED, "refused"), Closed("no server")])
def test_a_target_that_cannot_be_reached_is_a_reset(error, caplog):
    caplog.set_level("INFO", "lane.inbound")
    inbound = forwarding(raising(error))
    try:
        assert is_reset(inbound.address)
        assert f"{TARGET}: {error}" in caplog.text
    finally:
        inbound.close()


def test_what_is_a_bug_is_a_reset_too(caplog):
    inbound = forwarding(raising(RuntimeError("a bug")))
    try:
        assert is_reset(inbound.address)
        assert "failed unexpectedly" in caplog.text
    finally:
        inbound.close()


def test_who_waits_for_the_target_when_all_is_ended_gets_a_reset():
    inbound = forwarding(lambda target: gevent.sleep(1000))
    try:
        with dial(inbound) as sock:
            until(lambda: inbound.sessions == 1)
            inbound.close()
            inbound.kill()
            with pytest.raises(ConnectionResetError):
                to_end(sock)
    finally:
        inbound.close()


def test_inbounds_share_one_limit():
    """What one serves is not left for the other; it goes on when there is room."""
    pool = Pool(1)
    with Origin() as origin:
        target = Address("127.0.0.1", origin.echo)
        serve = partial(forward.serve, connector=SimpleNamespace(connect=Direct), target=target)
        one, two = (Inbound(Address("127.0.0.1", 0), serve, pool) for _ in range(2))
        one.start()
        two.start()
        try:
            with dial(one) as first, dial(two) as second:
                first.sendall(b"first")
                assert first.recv(5) == b"first"
                second.sendall(b"second")
                second.settimeout(0.1)
                with pytest.raises(socket.timeout):
                    second.recv(1)
                second.settimeout(10)
                first.shutdown(socket.SHUT_WR)
                assert to_end(first) == b""
                assert second.recv(6) == b"second"
        finally:
            for inbound in (one, two):
                inbound.close()
                inbound.kill()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_through_lane(transport, tmp_path):
    with Origin() as origin:
        ports = (origin.digest, origin.closed)
        options = [f"--forward=tcp://127.0.0.1:0=localhost:{port}" for port in ports]
        with running_pair(tmp_path, transport, client_options=options) as (server, client):
            client.wait_for("try: .*")
            line = r"^forwarding 127\.0\.0\.1:(\d+) to localhost:(\d+)$"
            found = re.findall(line, client.stdout, re.MULTILINE)
            digest, closed = (int(local) for local, _ in found)
            assert tuple(int(target) for _, target in found) == ports
            with socket.create_connection(("127.0.0.1", digest), 30) as sock:
                sock.sendall(CONTENT[: 3 * MB])
                sock.shutdown(socket.SHUT_WR)
                assert read_to_end(sock)[64:] == CONTENT[: 3 * MB]
            assert is_reset(("127.0.0.1", closed))
            connected(client.address, origin.echo).close()  # beside it, as ever
            assert client.stop() == 0
            assert server.stop() == 0
            assert "Traceback" not in client.stderr + server.stderr
