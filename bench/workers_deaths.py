"""A worker of a server is killed again and again: what becomes of its sessions, and what do others notice?

    python bench/workers_deaths.py [--deaths 10] [--transports tls,quic] [--json FILE]

Two clients, whose addresses (127.0.0.1 and ::1) belong to different workers, have 10 sessions each, which
exchange a message every 0.05 s. The worker of the first one is killed with SIGKILL. Printed are

    broke       its sessions, all of which must break, and those of the other one, none of which may
    back        seconds until a new connection of the first client has its first byte: median, longest
    p99         of the other one's exchanges, ms: in the five seconds before deaths, and in the second after

The exit status is 1 if other sessions broke than those, or if a worker took more than 2 s to come back.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from types import SimpleNamespace

from labs import about
from processes import LANE, lane_client, lane_server, line_with, start
from soak_kinds import HOST, socks5
from soak_target import HEAD
from tcp import read_exactly
from workers import HOSTS

from lane.address import Address
from lane.cli.workers import STEADY
from lane.link import Link
from lane.net.steering import worker_of

SESSIONS = 10
EVERY = 0.05
QUIET, AFTER = 5.0, 1.0
LIFE = STEADY + 1.0
"""Seconds for which a worker lives: one that dies sooner is started later, since it may die again."""
MOST = 2.0
"""Seconds within which a worker must be back."""
MESSAGE = bytes(100)


class Sessions:
    """Sessions of one client that exchange messages."""

    def __init__(self, proxy, target):
        self._proxy, self._target = proxy, target
        self.over = Event()
        self.took = []
        """When each exchange began, and how long it took."""
        self.broke = 0
        self._threads = [Thread(target=self._talk, daemon=True) for _ in range(SESSIONS)]
        for thread in self._threads:
            thread.start()

    def connect(self):
        sock = socks5(SimpleNamespace(proxy=self._proxy), HOST, self._target)[0]
        sock.settimeout(30)
        sock.sendall(HEAD.pack(b"E", 0, 0, 0))
        return sock

    def exchange(self, sock):
        began = time.monotonic()
        sock.sendall(MESSAGE)
        read_exactly(sock, len(MESSAGE))
        return began, time.monotonic() - began

    def _talk(self):
        try:
            with self.connect() as sock:
                while not self.over.wait(EVERY):
                    self.took.append(self.exchange(sock))
        except OSError:
            self.broke += 1

    def renew(self):
        """Seconds until a new one has its first exchange."""
        began = time.monotonic()
        while True:
            try:
                with self.connect() as sock:
                    self.exchange(sock)
                    return time.monotonic() - began
            except OSError:
                time.sleep(0.02)

    def end(self):
        self.over.set()
        for thread in self._threads:
            thread.join()

    def p99(self, begin, end):
        """Milliseconds of the slowest hundredth of exchanges that began in between."""
        took = sorted(seconds for at, seconds in self.took if begin <= at < end)
        return 1000 * took[int(0.99 * len(took))]


def death(near, far, victim):
    """Kill the worker `victim`: what came of it."""
    time.sleep(LIFE)
    at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    back = near.renew()
    time.sleep(max(0.0, at + AFTER + 0.5 - time.monotonic()))
    return {"back": back, "before": far.p99(at - QUIET, at), "after": far.p99(at, at + AFTER)}


def measure(transport, deaths):
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        options = ("--workers", 2, "--grace", "0s")
        server, link = lane_server(stack, folder, ":0", "127.0.0.0/8", options)
        stack.callback(server.wait)
        stack.callback(server.terminate)  # the parent waits for its workers
        link, ports = Link.parse(link), []
        for host in HOSTS:
            to = str(replace(link, address=Address(host, link.address.port)))
            ports.append(lane_client(stack, transport, to, ("--control", "off"))[1])
        target = start(stack, sys.executable, Path(__file__).with_name("soak_target.py"))
        target = int(line_with(target, "ready").split()[1])
        far, found, broke = Sessions(ports[1], target), [], []
        for _ in range(deaths):
            near = Sessions(ports[0], target)
            told = subprocess.run(
                [*LANE, "status", "--state-dir", folder, "--json"], capture_output=True, check=True
            )
            victim = json.loads(told.stdout)["workers"][worker_of(HOSTS[0], 2)]["pid"]
            found.append(death(near, far, victim))
            near.end()
            broke.append(near.broke)
        far.end()
    backs = [one["back"] for one in found]
    return {
        "broke": f"{sum(broke)} of {SESSIONS * deaths}, {far.broke} of {SESSIONS}",
        "back": [round(statistics.median(backs), 2), round(max(backs), 2)],
        "p99": [round(statistics.median(one[when] for one in found), 1) for when in ("before", "after")],
        "wrong": bool(far.broke) or sum(broke) < SESSIONS * deaths or max(backs) > MOST,
        "deaths": found,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deaths", type=int, default=10)
    parser.add_argument("--transports", default="tls,quic")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if worker_of(HOSTS[0], 2) == worker_of(HOSTS[1], 2):
        sys.exit("both addresses belong to one worker")
    found = {}
    for transport in args.transports.split(","):
        one = found[transport] = measure(transport, args.deaths)
        print(
            f"{transport}: {one['broke']} broke, back after {one['back'][0]} s (longest {one['back'][1]} s), "
            f"p99 {one['p99'][0]} ms before and {one['p99'][1]} ms after",
            flush=True,
        )
    if args.json:
        Path(args.json).write_text(json.dumps({**about(), "found": found}, indent=1))
    return int(any(one["wrong"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
