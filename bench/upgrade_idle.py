"""Thousands of idle sessions over one upgrade, for bench/upgrade.py, on loopback.

    python bench/upgrade_idle.py TRANSPORT SESSIONS

It prints, as JSON: the seconds until the new process serves, and until the old one has ended; the memory of
the server before, of both processes together at the worst moment, and of the new one afterwards, in MB
(proportional set size: pages that two processes share count once); the longest exchange of a session
afterwards; and how many sessions broke.
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
from upgrade_server import Server

EVERY = 0.5
"""Seconds between two looks at the memory."""
SETTLE = 5.0


def main():
    transport, sessions = sys.argv[1], int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    many = ("--log-level", "warning", "--max-sessions", held.MOST)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server(stack, folder, "127.0.0.1:0", ("--max-sessions-per-peer", held.MOST, *many))
        _, proxy = lane_client(stack, transport, server.link, ("--control", "off", *many))
        target = int(line_with(start(stack, sys.executable, held.__file__, "echo"), "ready").split()[1])
        pool = gevent.pool.Pool(held.AT_ONCE)
        began = time.monotonic()
        socks = pool.map(lambda _: held.opened(proxy, target), range(sessions))
        print(f"{sessions} opened in {time.monotonic() - began:.0f} s", file=sys.stderr)
        gevent.sleep(SETTLE)
        before, worst, over = memory(server.pid), 0.0, False
        old = server.pid

        def watch():
            nonlocal worst
            while not over:
                worst = max(worst, memory(old))
                gevent.sleep(EVERY)

        watching = gevent.spawn(watch)
        done = gevent.get_hub().threadpool.apply(server.upgrade, (150,))
        over = True
        watching.join()
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
        "MB before": round(before, 1),
        "MB at the worst": round(worst, 1),
        "times": round(worst / before, 2),
        "MB after": round(after, 1),
        "longest exchange after": round(longest, 2),
        "broke": f"{broken} sessions" if broken else None,
    }
    print(json.dumps(found))


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
