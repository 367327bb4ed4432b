"""What held sessions cost while they do nothing: CPU time, the longest pause of the event loop, and memory.

    python bench/held.py [--sessions 10000] [--active 0] [--transport quic] [--secs 20] [--peak]

A client and a server of lane, a target that echoes, and applications that open `--sessions` connections, each
with one exchange. Then for `--secs` seconds nothing happens, except that `--active` of them exchange 64 bytes
20 times a second. The program prints, for client and server: CPU time as a percentage of one core, the
longest pause of the event loop in a further interval (a timer of 1 ms measures it, which takes CPU time too),
and resident memory. With `--peak` the applications then close everything, and the memory is printed again as
time passes.
"""

import argparse
import resource
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import gevent
import gevent.pool
import gevent.server
import gevent.socket as gsocket
import psutil
from processes import LANE, line_with, start

PLUGIN = """
import os, signal, time
import gevent
from lane import hookimpl

class Pauses:
    longest, measuring = 0.0, False

    def toggle(self):
        self.measuring = not self.measuring
        if self.measuring:
            self.longest = 0.0
            gevent.spawn(self.measure)
        else:
            print(f"paused {1000 * self.longest:.2f} ms", flush=True)

    def measure(self):
        last = time.monotonic()
        while self.measuring:
            gevent.sleep(0.001)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now

@hookimpl
def lane_configure(options):
    gevent.signal_handler(signal.SIGRTMIN, Pauses().toggle)
"""
MESSAGE = bytes(64)
EVERY = 0.05
AT_ONCE = 64
MOST = 100_000
PEAK = (0, 5, 15, 30, 60)
"""Seconds after the end of a peak at which memory is printed."""


def echo():
    """The target."""

    def answer(sock, _):
        with sock:
            while data := sock.recv(4096):
                sock.sendall(data)

    server = gevent.server.StreamServer(("127.0.0.1", 0), answer, backlog=4096)
    server.start()
    print(f"ready {server.server_port}", flush=True)
    server.serve_forever()


def opened(proxy, target):
    """A connection through the proxy that has made one exchange."""
    sock = gsocket.create_connection(("127.0.0.1", proxy), 60)
    sock.settimeout(60)
    sock.sendall(b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1" + target.to_bytes(2, "big"))
    came = b""
    while len(came) < 12:
        came += sock.recv(12 - len(came)) or sys.exit("the proxy hung up")
    if came[3]:  # it ends in good order then, as a target may
        sys.exit(f"the proxy refused: reply code {came[3]}")
    exchange(sock)
    return sock


def exchange(sock):
    sock.sendall(MESSAGE)
    came = 0
    while came < len(MESSAGE):
        came += len(sock.recv(4096)) or sys.exit("the target hung up")


def chat(sock, latencies):
    while True:
        began = time.monotonic()
        exchange(sock)
        latencies.append(time.monotonic() - began)
        gevent.sleep(EVERY)


def cpu(ends):
    """Seconds of CPU time of each process. The kernel's ticks are too coarse for what is idle."""
    return [
        sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{end.pid}/task").glob("*/schedstat"))
        / 1e9
        for end in ends
    ]


def memory(ends):
    return "  ".join(f"{end.memory_info().rss / 1e6:.0f} MB" for end in ends)


def said(process, text, number):
    """The line with `text` that is number `number` of the process's output."""
    while len(found := [line for line in process.said.read_text().splitlines() if text in line]) < number:
        gevent.sleep(0.05)
    return found[number - 1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=10000)
    parser.add_argument("--active", type=int, default=0)
    parser.add_argument("--transport", default="quic")
    parser.add_argument("--secs", type=float, default=20)
    parser.add_argument("--peak", action="store_true")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "plugins").mkdir(mode=0o700)
        (folder / "plugins" / "pauses.py").write_text(PLUGIN)
        common = ("--plugin-dir", folder / "plugins", "--log-level", "warning", "--max-sessions", MOST)
        server = start(
            stack, *LANE, "server", "--state-dir", folder / "state", "--listen", "127.0.0.1:0",
            "--allow", "127.0.0.0/8", "--max-sessions-per-peer", MOST, *common,
        )  # fmt: skip
        port = line_with(server, "listening on").split()[2].rpartition(":")[2]
        link = start(stack, *LANE, "link", "--state-dir", folder / "state", "--host", f"127.0.0.1:{port}")
        client = start(
            stack, *LANE, "client", "--server", line_with(link, "lane://"), "--transport", args.transport,
            "--listen", "127.0.0.1:0", "--control", "off", *common,
        )  # fmt: skip
        proxy = int(line_with(client, "listening on").split()[2].rpartition(":")[2])
        target = int(line_with(start(stack, sys.executable, __file__, "echo"), "ready").split()[1])
        ends = [psutil.Process(end.pid) for end in (client, server)]
        opened(proxy, target).close()
        gevent.sleep(2)
        print(f"at rest        {memory(ends)}", flush=True)
        began, before = time.monotonic(), cpu(ends)
        pool = gevent.pool.Pool(AT_ONCE)
        socks = pool.map(lambda _: opened(proxy, target), range(args.sessions))
        took = time.monotonic() - began
        print(f"{len(socks)} opened    {len(socks) / took:.0f} a second, {memory(ends)}", flush=True)
        latencies = []
        chats = [gevent.spawn(chat, sock, latencies) for sock in socks[: args.active]]
        for phase in ("just opened", "held"):
            for measured in ("CPU", "pauses"):
                if measured == "pauses":
                    for end in ends:
                        end.send_signal(signal.SIGRTMIN)
                del latencies[:]
                before, began = cpu(ends), time.monotonic()
                gevent.sleep(args.secs / 2 if phase == "just opened" else args.secs)
                took = time.monotonic() - began
                if measured == "CPU":
                    used = [100 * (now - then) / took for now, then in zip(cpu(ends), before, strict=True)]
                    print(f"{phase:14} CPU of client and server {used[0]:.2f} %, {used[1]:.2f} %", end="  ")
                else:
                    for end in ends:
                        end.send_signal(signal.SIGRTMIN)
                    number = 1 + (phase == "held")
                    print("; ".join(said(end, "paused", number) for end in (client, server)), flush=True)
                if latencies:
                    latencies.sort()
                    middle, longest = latencies[len(latencies) // 2], latencies[-1]
                    print(f"    exchanges: p50 {1000 * middle:.2f} ms, longest {1000 * longest:.1f} ms")
        gevent.killall(chats)
        if args.peak:
            for sock in socks:
                sock.close()
            began = time.monotonic()
            for seconds in PEAK:
                gevent.sleep(max(0, began + seconds - time.monotonic()))
                print(f"{seconds:3} s later     {memory(ends)}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["echo"]:
        echo()
    else:
        main()
