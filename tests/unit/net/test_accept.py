"""Accepting goes on whatever the kernel says, and nobody waits for descriptors without a word."""

import socket as blocking
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import socket

from lane.errors import Closed
from lane.log import Throttle
from lane.net import accept
from lane.net.accept import Acceptor
from lane.testing.harness import outcome, until
from tests.support.descriptors import no_descriptors


@pytest.fixture(params=["tcp", "unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_UNIX if request.param == "unix" else socket.AF_INET)
    sock.bind(str(tmp_path / "socket") if request.param == "unix" else ("127.0.0.1", 0))
    sock.listen()
    with sock, gevent.Timeout(30, AssertionError("the test hangs")):
        yield sock


def dial(listener: socket.socket) -> blocking.socket:
    """Connect, without a switch to other greenlets."""
    sock = blocking.socket(listener.family)
    sock.connect(listener.getsockname())
    sock.setblocking(False)
    return sock


def is_reset(sock: blocking.socket) -> bool:
    try:
        return sock.recv(1) == b"" and sock.family == blocking.AF_UNIX  # it says no more
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False


def test_who_connects_without_descriptors_waits_for_some(
    listener: socket.socket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "BACK_OFF", 0.001)
    monkeypatch.setattr(accept, "_throttle", Throttle())
    acceptor = Acceptor(listener, "what comes")
    for _ in range(2):
        with dial(listener) as sock:
            with no_descriptors(whatever_is_closed=True):
                accepting = gevent.spawn(acceptor.accept)
                until(lambda: acceptor._failing_since)
                gevent.sleep(0.02)
                assert not accepting.ready()
            found, _ = accepting.get()
            found.sendall(b"served")
            found.close()
            assert sock.recv(10) == b"served"
    assert [record.getMessage() for record in caplog.records if record.name == accept.log.name] == [
        "cannot accept what comes: Too many open files"
    ]


def test_who_would_wait_for_long_is_reset(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "BACK_OFF", 0.001)
    monkeypatch.setattr(accept, "PATIENCE", 0.01)
    acceptor = Acceptor(listener, "what comes")
    for _ in range(2):
        first, second, late = (dial(listener) for _ in range(3))
        late.close()  # and connects while there are none
        with first, second:
            with no_descriptors():
                accepting = gevent.spawn(acceptor.accept)
                until(lambda first=first: is_reset(first))
                until(lambda second=second: is_reset(second))
                assert not accepting.ready()
            with dial(listener) as served:
                found, _ = accepting.get()
                found.sendall(b"served")
                found.close()
                assert served.recv(10) == b"served"


def test_who_comes_to_a_process_without_descriptors_has_his_time(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says that there are none, also while nobody wants to connect."""
    monkeypatch.setattr(accept, "BACK_OFF", 0.001)
    monkeypatch.setattr(accept, "PATIENCE", 0.05)
    acceptor = Acceptor(listener, "what comes")
    with blocking.socket(listener.family) as sock, no_descriptors():
        gevent.spawn(outcome, acceptor.accept)
        gevent.sleep(0.1)
        assert acceptor._failing_since is None
        sock.connect(listener.getsockname())
        sock.setblocking(False)
        until(lambda: acceptor._failing_since)
        assert not is_reset(sock)
        until(lambda: is_reset(sock))


@pytest.mark.parametrize("failing", [False, True])
def test_a_listener_that_is_closed_ends_it(listener: socket.socket, failing: bool) -> None:
    acceptor = Acceptor(listener, "what comes")
    accepting = gevent.spawn(outcome, acceptor.accept)
    gevent.idle()
    if failing:
        with dial(listener), no_descriptors():
            gevent.sleep(0.01)
            listener.close()
    else:
        listener.close()
    assert isinstance(accepting.get(), Closed)
