"""A server whose disk is full: it goes on serving, and loses nothing of what users have used."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from lane import state
from lane.testing.harness import until
from tests.support.processes import Lane, connected, read_exactly, start_client, start_server

SIZE = 600 << 10


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, the state folder of the server."""
    lacking = [tool for tool in ("mount", "umount") if not shutil.which(tool)]
    if os.geteuid():
        lacking.append("root")
    if lacking:
        pytest.skip(f"a small disk needs {' and '.join(lacking)}")
    folder = tmp_path / "server" / "state"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(folder)]
    if (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    with (folder / "fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))


def used(accounts):
    return sum(accounts.records(time.time(), "default")[0].used)


def test_a_full_disk_stops_neither_users_nor_counts(disk, tmp_path, origin):
    with (
        start_server(tmp_path / "server") as server,
        start_client(tmp_path / "client", "tls", server.link) as client,
        ExitStack() as stack,
    ):
        accounts = state.open_accounts(disk)
        stack.callback(accounts.close)
        until(lambda: accounts.records(time.time(), "default")[0].seen)
        before = used(accounts)
        fill(disk)
        moved = 0
        for size in (100_000, 1_000_000):
            with connected(client.address, origin.echo) as sock:
                for _ in range(0, size, 1000):
                    sock.sendall(bytes(1000))
                    read_exactly(sock, 1000)
            moved += 2 * size
            until(lambda: "can't be kept yet" in server.stderr, server.describe)
        for words, said in (
            (("user", "add", "kim", "--host", "proxy.example.com"), "database or disk is full"),
            (("user", "set", "default", "--quota", "1GB"), "database or disk is full"),
            (("kick", "default"), "database or disk is full"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "lane", *words, "--state-dir", disk],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stdout) == (78, ""), done
            assert said in done.stderr
            assert done.stderr.count("\n") == 1
        assert used(accounts) == before
        (disk / "fill").unlink()
        until(lambda: used(accounts) == before + moved, server.describe)
        until(lambda: "is kept again" in server.stderr)
        assert server.stderr.count("can't be kept yet") == 1
        assert "Traceback" not in server.stderr
        assert server.stop() == 0


def test_a_disk_that_is_full_at_the_first_start_is_one_clear_line(disk, tmp_path):
    fill(disk)
    server = Lane(tmp_path, "server", "--state-dir", disk, "--listen", "127.0.0.1:0")
    assert server.ended() == 78, server.describe()
    assert server.stderr.count("\n") == 1, server.describe()
    assert str(disk) in server.stderr
