"""Servers that are upgraded: whoever takes the place of whom."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

from lane.testing.harness import until
from tests.support.processes import DEADLINE
from tests.support.workers import status


def upgrade(server, *options):
    """Run `lane upgrade`: the finished process."""
    folder = server.arguments[server.arguments.index("--state-dir") + 1]
    command = [sys.executable, "-m", "lane", "upgrade", "--state-dir", folder, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


def upgraded(server):
    """Upgrade the server, which goes well: the process that has its place now."""
    before = status(server)["pid"]
    done = upgrade(server)
    assert done.returncode == 0, (done.stderr, server.describe())
    after = status(server)["pid"]
    assert after != before
    return after


def has_ended(pid):
    """Whether a process is gone, or only waits for its parent to look."""
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"
    return True


def stop(server):
    """End whoever has the server's place now."""
    pid = status(server)["pid"]
    os.kill(pid, signal.SIGTERM)
    until(lambda: has_ended(pid), server.describe)
