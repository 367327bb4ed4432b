"""What the benchmarks upgrade, a server or a client: bench/upgrade.py and bench/upgrade_idle.py."""

import time
from contextlib import suppress
from pathlib import Path

import psutil
from labs import SERVER
from processes import LANE, lane_client, lane_server, start

from lane.asking import ask
from lane.errors import LaneError
from lane.meeting import server_path

ALLOW = f"127.0.0.0/8,{SERVER}/32"
"""What the server reaches: the targets beside it."""
REST = 1.0
"""Seconds between two upgrades."""


class Upgradable:
    """A process that is upgraded. `options`: those of `lane upgrade`. `asked`: where it answers, and how.

    Whoever has its place ends with `stack`.
    """

    def __init__(self, stack, process, prefix, options, **asked):
        self.process, self.prefix, self._stack = process, prefix, stack
        self._options, self._asked = options, asked
        stack.callback(self._kill)

    def status(self):
        (found,) = ask(**self._asked)
        return found

    @property
    def pid(self):
        return self.status()["pid"]

    def upgrade(self, timeout=150):
        """Upgrade it, and wait until the old process has ended: the times, since 1970."""
        old, began, taken = self.pid, time.time(), None
        running = start(self._stack, *self.prefix, *LANE, "upgrade", *self._options)
        until = time.monotonic() + timeout
        while alive(old):
            with suppress(LaneError):
                if taken is None and self.pid != old:
                    taken = time.time()
            if time.monotonic() > until:
                raise SystemExit(f"process {old} has not ended after {timeout} s")
            time.sleep(0.02)
        ended = time.time()
        if running.wait(60):
            said = running.said.read_text() + self.process.said.read_text()[-2000:]
            raise SystemExit(f"lane upgrade: {said}")
        return {"began": began, "taken": taken or ended, "ended": ended}

    def _kill(self):
        with suppress(LaneError, psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            workers = parent.children()
            parent.kill()
            psutil.wait_procs(workers, timeout=10)  # they write to the folder until they notice


class Server(Upgradable):
    """A server, with the link to it."""

    def __init__(self, stack, folder, at, options=(), prefix=()):
        process, self.link = lane_server(stack, folder, at, ALLOW, options, prefix)
        self.state = Path(folder)
        where = {"path": server_path(self.state), "who": "server", "named": True}
        super().__init__(stack, process, prefix, ("--state-dir", self.state), **where)


class Client(Upgradable):
    """A client, with its `port`."""

    def __init__(self, stack, folder, transport, link, options=(), prefix=()):
        control = ("--control", Path(folder) / "control.sock")
        process, self.port = lane_client(stack, transport, link, (*control, *options), prefix)
        super().__init__(stack, process, prefix, control, path=control[1], what="process")


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def upgrades(upgraded, count):
    """Upgrades in a row: their times."""
    done = []
    for _ in range(count):
        done.append(upgraded.upgrade())
        time.sleep(REST)
    return done


def spans(done, begins="began", ends="ended"):
    """The median and the longest seconds of upgrades."""
    times = sorted(one[ends] - one[begins] for one in done)
    return {"median": round(times[len(times) // 2], 2), "longest": round(times[-1], 2)}
