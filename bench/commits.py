"""Two checkouts of lane on loopback, side by side: does a change cost speed, CPU or memory?

    python bench/commits.py BASE CANDIDATE [--transport tls|quic] [--work connections|download|downloads|
                            downloads20|chat|packets] [--batches 12] [--size N] [--idle N]

BASE and CANDIDATE are folders with a checkout each, for example of `git worktree add`; both run with the
Python of this command. Each has a client and a server, which stay for the whole run. Batches of the same work
go to one and to the other in turn, within a second of each other, because a machine's speed changes from
minute to minute. The result is the median of the ratios of neighbours, candidate over base: above 1 is worse.

    connections    --size connections by 8 workers, a byte each way on each
    download       one of --size MB
    downloads      eight at once, of --size MB together; downloads20: twenty
    chat           50 open connections that echo 64 bytes 20 times a second each, for --size seconds;
                   milliseconds of an echo (median) in place of seconds
    packets        the same with UDP packets
    --idle N       besides: resident KB of both ends for each of N connections that moved 1 MB and stay open
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
from processes import line_with, listens, start
from proxies import free_port
from target import CHAT_EVERY, Applications, together

SIZES = {"connections": 400, "download": 500, "downloads": 400, "downloads20": 400, "chat": 3, "packets": 3}
PACKETS = Path(__file__).with_name("packets.py")
WORKERS, CHATS = 8, 50
JOBS = {"download": 1, "downloads20": 20}
"""Workers, where they are others."""


class Lane:
    """A client and a server of the checkout in `folder`.

    `profiles`: a folder for what cProfile finds in each of them, in a file `client` and a file `server`.
    """

    def __init__(self, stack, folder, transport, target, profiles=None):
        folder, state = Path(folder).resolve(), stack.enter_context(tempfile.TemporaryDirectory())
        path = f"PYTHONPATH={folder}{os.pathsep}{folder / 'plugins'}"
        python = ("env", "-C", folder, path, sys.executable)

        def command(role):
            profiled = ("-m", "cProfile", "-o", Path(profiles) / role) if profiles else ()
            return (*python, *profiled, "-m", "lane", role)

        port, proxy = free_port(), free_port()
        common = ("--transport", transport)
        self.server = start(
            stack, *command("server"), "--listen", f"127.0.0.1:{port}", "--state-dir", state,
            "--allow", "127.0.0.0/8", *common,
        )  # fmt: skip
        listens(self.server, port)
        link = start(
            stack, *python, "-m", "lane", "link", "--state-dir", state, "--host", f"127.0.0.1:{port}"
        )
        self.client = start(
            stack, *command("client"), "--listen", f"127.0.0.1:{proxy}", "--control", "off",
            "--server", line_with(link, "lane://"), *common,
        )  # fmt: skip
        listens(self.client, proxy)
        self.applications, self.proxy = Applications(target, proxy), f"127.0.0.1:{proxy}"

    @property
    def cpu(self):
        """Seconds that each end used."""
        return [_cpu(process) for process in (self.client, self.server)]

    @property
    def resident(self):
        """KB of each end."""
        return [psutil.Process(each.pid).memory_info().rss / 1024 for each in (self.client, self.server)]

    def batch(self, work, size):
        """Seconds (of an echo: milliseconds), and CPU seconds of client and server."""
        before, begin = self.cpu, time.monotonic()
        if work == "chat":
            took = statistics.median(self.applications.chat(CHATS, size))
        elif work == "packets":
            took = statistics.median(self._packets(size))
        else:
            jobs = JOBS.get(work, WORKERS)
            todo = self._connect if work == "connections" else self._download
            together(lambda: todo(size / jobs), jobs)
            took = time.monotonic() - begin
        return [took, *(after - b for after, b in zip(self.cpu, before, strict=True))]

    def _connect(self, count):
        for _ in range(round(count)):
            with self.applications.connect(b"P") as sock:
                assert sock.recv(1) == b"!"

    def _download(self, megabytes):
        left, buffer = megabytes * 1e6, bytearray(1 << 18)
        with self.applications.connect(b"D") as sock:
            while left > 0:
                left -= sock.recv_into(buffer)

    def _packets(self, secs):
        with ExitStack() as stack:
            echo = start(stack, sys.executable, PACKETS, "echo")
            where = f"127.0.0.1:{line_with(echo, 'ready').split()[1]}"
            options = ("--proxy", self.proxy, "--count", CHATS, "--every", CHAT_EVERY, "--secs", secs)
            chat = start(stack, sys.executable, PACKETS, "chat", "--target", where, *options)
            return json.loads(line_with(chat, "rtt"))["rtt"]

    def idle(self, count):
        """KB of each end for a connection that stays open."""
        self.applications.hold(10)
        before = self.resident
        self.applications.hold(count)
        time.sleep(2)  # the last windows are given back later; this is the same for both
        return [(after - b) / count for after, b in zip(self.resident, before, strict=True)]


def _cpu(process):
    """In nanoseconds' resolution: a batch takes few ticks of the scheduler's clock."""
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9


def compare(base, candidate, args):
    rows = []
    for number in range(args.batches + 1):
        turns = [("base", base), ("candidate", candidate)][:: 1 if number % 2 else -1]
        rows.append({name: lane.batch(args.work, args.size) for name, lane in turns})
    del rows[0]  # warm
    for column, name in enumerate(("seconds", "CPU of the client", "CPU of the server")):
        found = {side: [row[side][column] for row in rows] for side in ("base", "candidate")}
        ratios = [c / b for b, c in zip(found["base"], found["candidate"], strict=True)]
        middle = {side: statistics.median(values) for side, values in found.items()}
        quarter = statistics.quantiles(ratios, n=4)
        print(
            f"{name:20}{middle['base']:9.3f}{middle['candidate']:9.3f}   {quarter[1]:.3f}"
            f" ({quarter[0]:.3f} to {quarter[2]:.3f})"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("candidate")
    parser.add_argument("--transport", default="tls")
    parser.add_argument("--work", choices=SIZES, default="connections")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--size", type=int)
    parser.add_argument("--idle", type=int, default=0)
    args = parser.parse_args()
    args.size = args.size or SIZES[args.work]
    with ExitStack() as stack:
        target = start(stack, sys.executable, Path(__file__).with_name("target.py"), "serve")
        port = int(line_with(target, "\n"))
        lanes = [Lane(stack, folder, args.transport, port) for folder in (args.base, args.candidate)]
        print(f"{args.transport}, {args.work}, {args.batches} batches of {args.size}")
        print(f"{'':20}{'base':>9}{'cand.':>9}   median of ratios (middle half)")
        compare(*lanes, args)
        for lane, name in zip(lanes, ("base", "candidate"), strict=True) if args.idle else ():
            print(f"{name}: KB an idle connection, client and server: {lane.idle(args.idle)}")


if __name__ == "__main__":
    main()
