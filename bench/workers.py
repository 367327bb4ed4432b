"""A server of one worker beside one of two, each worker held to a share of a core, on loopback.

    python bench/workers.py [--secs 5] [--rounds 3] [--share 0.1] [--transports tls,quic] [--json FILE]

Two clients, whose addresses (127.0.0.1 and ::1) belong to different workers, load the server together. Its
processes are in cgroups with a quota of CPU time, which needs root. So other processes on the machine have
enough left, and two workers can do twice as much as one. Figures are medians of the rounds, and what two
workers do in relation to one.

    down           eight bulk transfers of each client for --secs: Mbit/s in all
    connections    new connections of 16 applications of each client for --secs, one byte each way: a second
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from labs import about
from processes import LANE, lane_client, lane_server, start
from target import Load

from lane.address import Address
from lane.link import Link
from lane.net.steering import worker_of

HOSTS = ("127.0.0.1", "::1")
PERIOD = 20_000
"""Microseconds in which a cgroup gets its share."""
WARM = 1.0


class Held:
    """A cgroup in which a process has `share` of a core, by either version of cgroups. Ends with `stack`."""

    def __init__(self, stack, name, share):
        quota = int(share * PERIOD)
        first, second = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
        root, files = (
            (first, {"cpu.cfs_period_us": PERIOD, "cpu.cfs_quota_us": quota})
            if first.is_dir()
            else (second, {"cpu.max": f"{quota} {PERIOD}"})
        )
        self._folder = root / f"lane-bench-{os.getpid()}-{name}"
        self._folder.mkdir()
        stack.callback(self._remove)
        for file, value in files.items():
            (self._folder / file).write_text(str(value))

    def _remove(self):
        for _ in range(100):  # until its processes have ended
            with suppress(OSError):
                self._folder.rmdir()
                return
            time.sleep(0.05)

    def hold(self, pid):
        (self._folder / "cgroup.procs").write_text(str(pid))


def down(loads, secs):
    for load in loads:
        load.start("down", 8)
    time.sleep(WARM)
    before = [load.each() for load in loads]
    time.sleep(secs)
    after = [load.each() for load in loads]
    pairs = zip(before, after, strict=True)
    return sum((sum(b[0]) - sum(a[0])) * 8 / (b[1] - a[1]) / 1e6 for a, b in pairs)


def connections(loads, secs):
    with ThreadPoolExecutor(len(loads)) as pool:
        list(pool.map(lambda load: load.connections(0.5, 16), loads))
        return sum(
            count / elapsed for count, elapsed in pool.map(lambda one: one.connections(secs, 16), loads)
        )


TESTS = {"down": (down, "Mbit/s"), "connections": (connections, "a second")}


def measure(test, transport, workers, args):
    """One figure, of a server and clients of its own."""
    with ExitStack() as stack:
        cgroups = [Held(stack, number, args.share) for number in range(workers)]
        folder = stack.enter_context(TemporaryDirectory())
        server, link = lane_server(
            stack, folder, ":0", "127.0.0.0/8", ("--workers", workers, "--grace", "0s")
        )
        told = subprocess.run(
            [*LANE, "status", "--state-dir", folder, "--json"], capture_output=True, check=True
        )
        for cgroup, worker in zip(cgroups, json.loads(told.stdout)["workers"], strict=True):
            cgroup.hold(worker["pid"])
        stack.callback(server.wait)
        stack.callback(server.terminate)  # the parent waits for its workers
        link = Link.parse(link)
        ports = []
        for host in HOSTS:
            to = str(replace(link, address=Address(host, link.address.port)))
            ports.append(lane_client(stack, transport, to)[1])
        first = Load(stack, start, ports[0])
        return TESTS[test][0]([first, first.other(ports[1])], args.secs)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--secs", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--transports", default="tls,quic")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if worker_of(HOSTS[0], 2) == worker_of(HOSTS[1], 2):
        sys.exit("both addresses belong to one worker")
    try:
        with ExitStack() as stack:
            Held(stack, "try", args.share)
    except OSError as error:
        sys.exit(f"skipped: no process can be held to a share of a core here: {error}")
    found = {}
    for transport in args.transports.split(","):
        for test, (_, unit) in TESTS.items():
            rounds = [
                [measure(test, transport, workers, args) for workers in (1, 2)] for _ in range(args.rounds)
            ]
            one, two = map(statistics.median, zip(*rounds, strict=True))
            ratio = statistics.median(after / before for before, after in rounds)
            print(f"{transport:5} {test:12} {one:8.1f} {two:8.1f} {unit:9} {ratio:5.2f}x", flush=True)
            found[f"{transport} {test}"] = {"unit": unit, "rounds": rounds, "ratio": ratio}
    if args.json:
        Path(args.json).write_text(json.dumps({**about(), "share": args.share, "found": found}, indent=1))


if __name__ == "__main__":
    main()
