"""What an open page of the admin port costs the client or the server that it looks at.

    python bench/page.py [--sessions 1,1000] [--active 20] [--every 0.05] [--transport tls] [--rounds 5]

A client and a server of lane, and applications with so many sessions, `--active` of which exchange 64 bytes
`--every` so many seconds. In turn nobody looks, and both ends are asked once a second for what the page asks
for, for `--secs` each. The difference in CPU time, as a percentage of one core, is what bulk transfers lose,
since they end at the CPU. Printed are the median of the rounds, the least and the most, and the time and the
size of an answer.
"""

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import gevent
import gevent.socket as gsocket
import held
import psutil
from held import AT_ONCE, chat, cpu, opened
from processes import LANE, line_with, start

AGAIN = 2
"""Seconds that the page asks for again."""


def free_port():
    with gsocket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def look(port, secret, since):
    """Ask as the page does: the answer, its bytes, and how long it took."""
    began, came = time.monotonic(), b""
    with gsocket.create_connection(("127.0.0.1", port), 30) as sock:
        head = (
            f"GET /api/view?since={since} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\n"
        )
        sock.sendall(f"{head}\r\n".encode())
        while more := sock.recv(1 << 18):
            came += more
    body = came.partition(b"\r\n\r\n")[2]
    return json.loads(body), len(body), time.monotonic() - began


def watch(port, secret, answers):
    since = 0
    while True:
        began = time.monotonic()
        view, size, took = look(port, secret, since)
        since = max(0, (view["history"]["times"] or [0])[-1] - AGAIN)
        answers.append((size, took))
        gevent.sleep(max(0, began + 1 - time.monotonic()))


def used(ends, secs):
    """Per cent of a core that each process uses."""
    before, began = cpu(ends), time.monotonic()
    gevent.sleep(secs)
    took = time.monotonic() - began
    return [100 * (now - then) / took for now, then in zip(cpu(ends), before, strict=True)]


def measure(args, sessions):
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        secret, ports = secrets.token_urlsafe(24), (free_port(), free_port())
        options = [("--admin", f"127.0.0.1:{port}", "--admin-secret", secret) for port in ports]
        server = start(
            stack, *LANE, "server", "--state-dir", folder / "state", "--listen", "127.0.0.1:0",
            "--allow", "127.0.0.0/8", "--max-sessions-per-peer", held.MOST, *options[1],
        )  # fmt: skip
        port = line_with(server, "listening on").split()[2].rpartition(":")[2]
        link = start(stack, *LANE, "link", "--state-dir", folder / "state", "--host", f"127.0.0.1:{port}")
        client = start(
            stack, *LANE, "client", "--server", line_with(link, "lane://"), "--transport", args.transport,
            "--listen", "127.0.0.1:0", "--control", "off", *options[0],
        )  # fmt: skip
        proxy = int(line_with(client, "listening on").split()[2].rpartition(":")[2])
        target = int(line_with(start(stack, sys.executable, held.__file__, "echo"), "ready").split()[1])
        ends = [psutil.Process(end.pid) for end in (client, server)]
        socks = gevent.pool.Pool(AT_ONCE).map(lambda _: opened(proxy, target), range(sessions))
        chats = [gevent.spawn(chat, sock, deque(maxlen=1)) for sock in socks[: args.active]]
        gevent.sleep(5)
        costs, answers = [], ([], [])
        for _ in range(args.rounds):
            alone = used(ends, args.secs)
            watchers = [gevent.spawn(watch, *one) for one in zip(ports, (secret,) * 2, answers, strict=True)]
            gevent.sleep(2)  # the first answer has all that is remembered
            watched = used(ends, args.secs)
            gevent.killall(watchers)
            costs.append([now - before for now, before in zip(watched, alone, strict=True)])
        gevent.killall(chats)
        for name, cost, asked in zip(("client", "server"), zip(*costs, strict=True), answers, strict=True):
            sizes, times = zip(*asked, strict=True)
            print(
                f"{sessions:5} sessions, {name}: {median(cost):.2f} % of a core"
                f" ({min(cost):.2f} to {max(cost):.2f}),"
                f" {median(sizes) / 1000:.1f} KB in {1000 * median(times):.1f} ms",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", default="1,1000")
    parser.add_argument("--active", type=int, default=20)
    parser.add_argument("--every", type=float, default=held.EVERY)
    parser.add_argument("--transport", default="tls")
    parser.add_argument("--secs", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    held.EVERY = args.every
    for sessions in args.sessions.split(","):
        measure(args, int(sessions))


if __name__ == "__main__":
    main()
