"""What a server leaves at a restart: a stand-in for the service manager keeps it."""

import os
import socket

import pytest

from lane.address import Address
from lane.handover import store
from lane.handover.store import Store
from lane.handover.succession import Inheritance
from lane.net.prepared import wanted_of
from lane.session.parcel import Parcel


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("FDSTORE", "10")
        yield sock


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def left(listener):
    address = Address(*listener.getsockname())
    wanted = wanted_of(socket.SOCK_STREAM, address, [listener], 5, quic=False)
    return Inheritance(b"12345678", address.port, [], [(wanted, [[listener]])], [], None)


def kept(manager):
    """What the manager has been given, by name."""
    found = {}
    manager.setblocking(False)
    while True:
        try:
            text, descriptors, _, _ = socket.recv_fds(manager, 4096, 4)
        except BlockingIOError:
            return found
        fields = dict(line.split("=", 1) for line in text.decode().splitlines())
        assert fields["FDPOLL"] == "0"
        (found[fields["FDNAME"]],) = descriptors


def passed(monkeypatch, found):
    """Pass descriptors as the manager does: one after the other, from a number on that nobody has."""
    names = sorted(found, key=found.__getitem__)
    for number, name in enumerate(names, 500):
        os.dup2(found[name], number)
        os.close(found[name])
        found[name] = number
    monkeypatch.setattr(store, "FIRST", 500)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDNAMES", ":".join(names))


def parcels(*socks):
    return [Parcel({"n": number}, [os.dup(sock.fileno())]) for number, sock in enumerate(socks)]


def test_there_and_back(manager, listener, monkeypatch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # Two sessions may share a socket, such as the port of a reverse forward.
        assert Store.found().keep(left(listener), parcels(ours, ours)) == 2
        found = kept(manager)
        assert len(found) == 3
        passed(monkeypatch, found)
        inherited, sessions = store.collect(60.0, 1)
        assert inherited.epoch == b"12345678"
        (_, ((again,),)) = inherited.groups[0]
        assert again.getsockname() == listener.getsockname()
        again.close()
        assert [parcel.state for parcel in sessions] == [{"n": 0}, {"n": 1}]
        for parcel in sessions:
            os.write(parcel.descriptors[0], b"x")
            parcel.close()
        assert theirs.recv(10) == b"xx"
        assert {line.decode() for line in removed(manager)} == set(found)


def removed(manager):
    """The names that it was told to forget."""
    names = []
    while True:
        try:
            text = manager.recv(4096)
        except BlockingIOError:
            return names
        first, _, name = text.partition(b"\nFDNAME=")
        assert first == b"FDSTOREREMOVE=1"
        names.append(name)


def test_what_does_not_fit(manager, listener, caplog):
    pairs = [socket.socketpair() for _ in range(12)]
    assert Store.found().keep(left(listener), parcels(*(ours for ours, _ in pairs))) == 8
    assert "4 sessions end: raise FileDescriptorStoreMax= of the unit (10)" in caplog.text
    for one in kept(manager).values():
        os.close(one)
    for pair in pairs:
        for sock in pair:
            sock.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_sessions_that_are_too_old(manager, listener, monkeypatch, workers):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Store.found().keep(left(listener), parcels(ours))
        passed(monkeypatch, kept(manager))
        inherited, sessions = store.collect(0.0, workers)
        assert sessions == []
        assert inherited.workers == (1 if workers == 1 else 0)
        inherited.without_sockets()
        ours.close()
        assert theirs.recv(1) == b""  # nobody holds the other end any more


def test_another_format(manager, listener, monkeypatch, caplog):
    monkeypatch.setattr(store, "FORMAT", 99)
    Store.found().keep(left(listener), [])
    monkeypatch.undo()
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    passed(monkeypatch, kept(manager))
    assert store.collect(60.0, 1) is None
    assert "format 99" in caplog.text


@pytest.mark.parametrize("most", ["", "0", "many"])
def test_no_store(monkeypatch, most):
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setenv("FDSTORE", most)
    assert Store.found() is None
    assert store.collect(60.0, 1) is None
