"""Thousands of idle sessions over one upgrade, for bench/upgrade.py, on loopback.

    python bench/upgrade_idle.py TRANSPORT SESSIONS

It prints, as JSON: the seconds until the new process serves, until the old one has ended, and until the
client has nothing more to do; the memory of the server before, of both processes together at the worst
moment, and of the new one afterwards, in MB (proportional set size: pages that two processes share count
once); the CPU seconds of the old process, the new one and the client meanwhile; the longest exchange of a
session afterwards; and how many sessions broke.
"""

import json
import resource
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import gevent
import gevent.pool
import held
import psutil
from processes import lane_client, line_with, start
from upgrade_server import Server, alive

EVERY = 0.25
"""Seconds between two looks at the memory."""
SETTLE = 5.0
REST = 0.02
"""CPU seconds between two looks up to which processes have nothing to do."""


def main():
    transport, sessions = sys.argv[1], int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    many = ("--log-level", "warning", "--max-sessions", held.MOST)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server(stack, folder, "127.0.0.1:0", ("--max-sessions-per-peer", held.MOST, *many))
        client, proxy = lane_client(stack, transport, server.link, ("--control", "off", *many))
        target = int(line_with(start(stack, sys.executable, held.__file__, "echo"), "ready").split()[1])
        pool = gevent.pool.Pool(held.AT_ONCE)
        began = time.monotonic()
        socks = pool.map(lambda _: held.opened(proxy, target), range(sessions))
        print(f"{sessions} opened in {time.monotonic() - began:.0f} s", file=sys.stderr)
        gevent.sleep(SETTLE)
        before, worst, over = memory(server.pid), 0.0, False
        old = server.pid
        used = {"old": cpu(old), "client": cpu(client.pid)}
        last = used["old"]

        def watch():
            nonlocal worst, last
            while not over:
                now = memory(old) + (memory(server.pid) if not alive(old) else 0.0)
                worst, last = max(worst, now), cpu(old) or last
                gevent.sleep(EVERY)

        watching = gevent.spawn(watch)
        done = gevent.get_hub().threadpool.apply(server.upgrade, (150,))
        back = at_rest(client.pid, server.pid)
        over = True
        watching.join()
        used = {
            "old": last - used["old"],
            "new": cpu(server.pid),
            "client": cpu(client.pid) - used["client"],
        }
        after = memory(server.pid)
        longest, broken = 0.0, 0

        def again(sock):
            nonlocal longest, broken
            asked = time.monotonic()
            try:
                sock.sendall(held.MESSAGE)
                came = 0
                while came < len(held.MESSAGE):
                    data = sock.recv(4096)
                    came += len(data)
                    if not data:
                        raise ConnectionError
                longest = max(longest, time.monotonic() - asked)
            except OSError:
                broken += 1

        gevent.pool.Pool(held.AT_ONCE).map(again, socks)
    found = {
        "sessions": sessions,
        "serves after": round(done["taken"] - done["began"], 2),
        "over after": round(done["ended"] - done["began"], 2),
        "clients back after": round(back - done["began"], 2),
        "MB before": round(before, 1),
        "MB at the worst": round(worst, 1),
        "times": round(worst / before, 2),
        "MB after": round(after, 1),
        "CPU s": {who: round(seconds, 1) for who, seconds in used.items()},
        "longest exchange after": round(longest, 2),
        "broke": f"{broken} sessions" if broken else None,
    }
    print(json.dumps(found))


def cpu(pid):
    """CPU seconds of a process; 0 if it has ended."""
    with suppress(psutil.NoSuchProcess):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return 0.0


def at_rest(*pids):
    """Wait until these processes have nothing to do: the time since when."""
    used, since = sum(map(cpu, pids)), time.time()
    while time.time() < since + 2.0:
        gevent.sleep(EVERY)
        before, used = used, sum(map(cpu, pids))
        if used > before + REST:
            since = time.time()
    return since


def memory(pid):
    """MB of a process and of those that it has started."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for one in (found := psutil.Process(pid), *found.children()):
            with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                total += pss(one.pid)
    return total / 1e6


def pss(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
