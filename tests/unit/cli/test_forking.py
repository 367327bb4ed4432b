"""Processes that a parent forks. The parent has no event loop, so it is a process of its own here too."""

import subprocess
import sys

import pytest

from lane.testing.harness import until

SCRIPT = """
import os, signal, sys
from lane.cli.forking import ask, fork
from lane.errors import ConfigError, Fatal
from lane.net.listen import listen
from lane.address import Address

def taken():
    return [sock.getsockname()[1] > 0 for sock in listen(Address("127.0.0.1", 0), 1)]

def wrong():
    raise ConfigError("a bad file")

def bug():
    raise ValueError("on purpose")

def dies():
    os.kill(os.getpid(), signal.SIGKILL)

assert ask(taken) == [True]
for work, kind in ((wrong, ConfigError), (bug, Fatal), (dies, Fatal)):
    try:
        ask(work)
    except Fatal as error:
        assert type(error) is kind, error
        print(error)

def orphan(say):
    say(os.getpid())
    while True:
        signal.pause()

if sys.argv[1:] == ["die"]:
    pid, reader = fork(orphan)
    print(os.read(reader, 100).decode().strip(), flush=True)
    os._exit(0)
from gevent import get_hub
from gevent._hub_local import get_hub_if_exists
assert get_hub_if_exists() is None
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=100, check=True
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks workers")
def test_the_result_of_a_process_or_its_error():
    done = run()
    assert done.stdout.splitlines() == [
        "a bad file", "ValueError: on purpose", "a process that was started has died"
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks workers")
def test_a_process_ends_with_its_parent():
    pid = run("die").stdout.splitlines()[-1]  # it holds the output open, so it has ended
    until(lambda: not _lives(int(pid)))


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
