"""Where the control socket is, who may use it, and whom `lane why` believes there."""

import os
import socket
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest

from lane import meeting
from lane.address import Address
from lane.errors import ConfigError
from lane.meeting import Unfit, connect, default_path, find, listen_at
from lane.testing.harness import outcome
from tests.support.local_sockets import dead
from tests.support.namespaces import in_own_network

LISTEN = Address("127.0.0.1", 1080)
NETWORK = f"{os.stat('/proc/self/ns/net').st_ino:x}"
NAME = f"client-127.0.0.1:1080-{NETWORK}.sock"
NOBODY = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act for other users")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "c.sock"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The user's folder, and that of the service."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    service = tmp_path / "run" / "lane"
    service.parent.mkdir()
    monkeypatch.setattr(meeting, "SERVICE", service)
    return tmp_path / "lane", service


@contextmanager
def listening(path):
    sock, _ = listen_at(path)
    with sock:
        yield


def reached(path):
    """How an attempt to connect ends: None, or the error."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        return outcome(connect, sock, path)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def is_refused(path, reason):
    with pytest.raises(ConfigError, match=f"^cannot listen on {path}: {reason}"):
        listen_at(path)


# Where it is


def test_the_default_is_named_after_address_and_network(monkeypatch):
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert str(default_path(LISTEN)) == f"/run/user/7/lane/{NAME}"
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/lane:/run/other")
    assert str(default_path(LISTEN)) == f"/run/lane/{NAME}"
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(default_path(LISTEN)) == f"/tmp/lane-{os.geteuid()}/{NAME}"


def test_each_network_has_its_own():
    script = "from lane.meeting import *; print(default_path(Address('127.0.0.1', 1080)))"
    there = Path(in_own_network(script).strip())
    assert there.parent == default_path(LISTEN).parent
    assert there.name != NAME


def test_the_service_is_asked_where_there_is_no_client_of_the_user(folders):
    own, service = (folder / NAME for folder in folders)
    assert find(LISTEN) == own
    dead(service)
    assert find(LISTEN) == service
    dead(own)
    assert find(LISTEN) == own


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_who_listens_on_all_addresses_listens_there(folders, host):
    everywhere = default_path(Address(host, 1080))
    dead(everywhere)
    assert find(LISTEN) == everywhere
    assert find(Address("127.0.0.1", 1081)).name.startswith("client-127.0.0.1:1081-")
    exact = folders[1] / NAME
    dead(exact)
    assert find(LISTEN) == exact


@pytest.mark.parametrize(
    ("asked", "there"), [("127.0.0.1", "::1"), ("localhost", "::1"), ("localhost", "127.0.0.1")]
)
def test_localhost_is_whichever_address_a_client_has(folders, asked, there):
    client = default_path(Address(there, 1080))
    dead(client)
    assert find(Address(asked, 1080)) == client
    assert find(Address("127.0.0.2", 1080)) != client


def test_a_client_on_another_address_or_in_another_network_is_not_asked_but_named(folders):
    own, _ = folders
    for name in (f"client-127.0.0.2:1080-{NETWORK}.sock", "client-127.0.0.1:1080-1.sock"):
        dead(own / name)
    path = find(LISTEN)
    assert path == own / NAME
    error = reached(path)
    assert isinstance(error, FileNotFoundError)
    assert error.strerror == (
        "No such file or directory, beside client-127.0.0.1:1080-1.sock, "
        f"client-127.0.0.2:1080-{NETWORK}.sock"
    )


# Whom a client trusts


def test_only_the_owner_may_use_it(path):
    with listening(path):
        assert (mode(path.parent), mode(path)) == (0o700, 0o600)


def test_a_folder_that_others_may_read_will_do(path):
    path.parent.mkdir()
    path.parent.chmod(0o755)
    with listening(path):
        assert mode(path) == 0o600
        assert reached(path) is None


def test_a_folder_that_others_may_write_to_will_not(path):
    path.parent.mkdir()
    for lax in (0o720, 0o1777):
        path.parent.chmod(lax)
        is_refused(path, "others may write to its folder")


def test_a_folder_of_another_user_will_not(path, monkeypatch):
    path.parent.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    is_refused(path, "its folder belongs to another user")


def test_a_link_to_a_folder_will_not(path, tmp_path):
    (tmp_path / "real").mkdir()
    path.parent.symlink_to("real")
    is_refused(path, "its folder is a symbolic link")


def test_what_the_system_refuses_is_said(path, tmp_path):
    is_refused(tmp_path / "no" / "such" / "s", "No such file")
    path.parent.touch()
    is_refused(path, "Not a directory")
    is_refused(tmp_path / ("x" * 200), ".* too long")


def test_a_folder_with_a_long_name_will_do(tmp_path):
    path = tmp_path / ("x" * 120) / "c.sock"
    with listening(path):
        assert reached(path) is None
        assert mode(path) == 0o600
        is_refused(path, "another process listens there")
    with listening(path):  # which was left behind
        assert reached(path) is None


# What is there already


def test_a_file_that_is_no_socket_stays(path):
    path.parent.mkdir()
    path.write_text("precious")
    is_refused(path, "there is a file that is no socket")
    assert path.read_text() == "precious"


def test_the_socket_of_a_client_that_died_is_replaced(path):
    dead(path)
    with listening(path):
        assert reached(path) is None


def test_the_socket_of_a_client_that_lives_is_not(path):
    with listening(path):
        is_refused(path, "another process listens there")
        assert reached(path) is None


def test_a_client_that_is_too_busy_to_accept_lives(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        is_refused(path, "another process listens there")


def test_sockets_of_clients_that_died_in_other_networks_go(folders):
    path, _ = folders[0] / NAME, folders[0].mkdir(mode=0o700)
    others = [path.with_name(f"client-127.0.0.1:{number}-{number}.sock") for number in range(1, 4)]
    dead(others[0])
    foreign = path.with_name("client.sock")
    dead(foreign)
    others[1].write_text("precious")
    with listening(others[2]), listening(path):
        assert {*path.parent.iterdir()} == {path, others[1], others[2], foreign}
    dead(path.with_name("other"))
    with listening(path.with_name("c.sock")):  # at a path that was asked for nothing else is touched
        assert path.exists()


# Whom `lane why` believes


@needs_root
def test_root_does_not_believe_the_folder_of_another_user(folders):
    own, service = folders
    own.mkdir()
    with listening(own / NAME):
        os.chown(own, NOBODY, -1)
        error = reached(own / NAME)
        assert isinstance(error, Unfit)
        assert str(error) == "its folder belongs to another user"
        dead(service / NAME)
        assert find(LISTEN) == service / NAME  # and it is not kept from the service


@needs_root
def test_root_believes_the_service_whoever_runs_it(folders):
    _, service = folders
    with listening(service / NAME):
        os.chown(service, NOBODY, -1)
        assert find(LISTEN) == service / NAME
        assert reached(service / NAME) is None


@pytest.mark.parametrize("lax", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_believed(path, lax):
    with listening(path):
        path.parent.chmod(lax)
        error = reached(path)
    assert isinstance(error, Unfit)
    assert str(error) == "others may write to its folder"


def test_a_link_to_a_folder_is_not_followed(path, tmp_path):
    with listening(path):
        (tmp_path / "link").symlink_to("run")
        error = reached(tmp_path / "link" / "c.sock")
    assert isinstance(error, Unfit)
    assert str(error) == "its folder is a symbolic link"


def test_a_link_to_a_socket_is_not_followed(path):
    with listening(path):
        link = path.with_name("link")
        link.symlink_to(path)
        error = reached(link)
    assert isinstance(error, Unfit)
    assert str(error) == "it is a symbolic link"


@needs_root
def test_a_socket_on_which_another_user_listens_is_not_believed(path):
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        os.seteuid(NOBODY)
        try:
            sock.listen()
        finally:
            os.seteuid(0)
        error = reached(path)
        with socket.socket(socket.AF_UNIX) as mine:
            connect(mine, path, named=True)  # a folder that root has named, as of a service of systemd 257
    assert isinstance(error, Unfit)
    assert str(error) == "another user listens there"
