"""The effect of a crowd at a lane server on one honest user, and on the server.

    python bench/strangers.py [--attacks silent,half,unproven,guess,...] [--transports tls,quic]
        [--count 1200] [--addresses 1,200] [--secs 8]

The others are strangers (bench/crowd.py), or another user with a key (bench/greedy.py): sessions, probes,
unread, orphans, tiny, names, packets.

With root and netlab (see bench/labs.py) the server is in one network namespace. The strangers and the user
are in another one, where the strangers have up to 200 addresses. Otherwise everything is on loopback. The
figures are for each attack, transport and number of addresses, before and during the attack:

- "connect": milliseconds from a new connection with the right key to the server's answer (p50, p99, the
  longest, and their number), and the number of failures. The connections are made one after the other.
- "trip": milliseconds of an answer on a connection that existed before (the same values).
- "CPU": the server's CPU time, as a part of one core. "MB": the growth of its resident memory, during the
  attack and 15 s after it.
"""

import argparse
import json
import resource
import secrets
import signal
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import gevent
import psutil
from labs import Link as Wire
from labs import lab, lacking
from lane_quic.plugin import QuicTransport
from lane_tls.plugin import TLSTransport
from processes import lane_server, line_with, start

from lane.carriers.request_stream import NOWHERE, read_reply
from lane.certs import PinnedTLS
from lane.errors import LaneError
from lane.link import KEY_SIZE, Link, encode
from lane.proto.frames import FrameReader, Ping, pack
from lane.proto.hello import Command, Request, pack_hello, token

HERE = Path(__file__).parent
ATTACKS = {"silent": ("tls",), "half": ("tls",), "unproven": ("tls", "quic"), "guess": ("tls", "quic")}
"""The attacks of bench/crowd.py, with their transports."""
GREEDY = ("sessions", "probes", "unread", "orphans", "tiny", "names", "packets")
"""The attacks of bench/greedy.py, each over both transports."""
WIRE = Wire(1000, 2, 0, 940)
AFTER = 15.0
"""Seconds after which the server has forgotten clients that left."""
FILES = 4096
PAUSE = 0.02


# The honest user, a separate process.


class User:
    def __init__(self, transport, link):
        self.transport = {"tls": TLSTransport, "quic": QuicTransport}[transport]()
        self.link, self.tls = link, PinnedTLS(link.pin)
        self.failed = 0

    def ask(self, command):
        """Open a carrier, and a stream on which the server has answered."""
        carrier = self.transport.dial(self.link.address, self.tls)
        try:
            stream = carrier.open()
            stream.sendall(
                pack_hello(token(self.link.key, carrier.binding)) + Request(command, NOWHERE, 0).pack()
            )
            read_reply(stream.recv)
        except BaseException:
            carrier.close()
            raise
        return carrier, stream

    def connects(self, until):
        times = []
        while (began := time.monotonic()) < until:
            try:
                with gevent.Timeout(30, LaneError("no answer")):
                    self.ask(Command.PING)[0].close()
                times.append(time.monotonic() - began)
            except LaneError:
                self.failed += 1
            gevent.sleep(PAUSE)
        return times

    def trips(self, stream, until):
        frames, times = FrameReader(), []
        while (began := time.monotonic()) < until:
            stream.sendall(pack(Ping(1)))
            while not list(frames.feed(stream.recv())):
                pass
            times.append(time.monotonic() - began)
            gevent.sleep(PAUSE)
        return times

    def run(self):
        """Read lines with a number of seconds. Measure for so long, and print a line of figures for each."""
        _, stream = self.ask(Command.PROBE)
        read = gevent.get_hub().threadpool
        while line := read.apply(sys.stdin.readline):
            until, self.failed = time.monotonic() + float(line), 0
            trips = gevent.spawn(self.trips, stream, until)
            connects = self.connects(until)
            print(json.dumps([connects, self.failed, trips.get()]), flush=True)


def shown(times):
    """p50, p99 and the longest time in ms, and the number of times."""
    if not times:
        return "none"
    times = sorted(times)
    found = statistics.median(times), times[len(times) * 99 // 100], times[-1]
    return " / ".join(f"{1000 * each:.1f}" for each in found) + f" of {len(times)}"


# The benchmark.


class Scene:
    """A server, a connected user, and the place of the strangers."""

    def __init__(self, stack, transport, place):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.stack, self.transport = stack, transport
        self.here, there, at, self.sources = place
        process, link = lane_server(stack, folder, f"{at}:0", "127.0.0.0/8", (), there)
        process.kill()
        process.wait()
        other = secrets.token_bytes(KEY_SIZE)
        with (folder / "keys").open("a") as keys:
            keys.write(f"greedy {encode(other)}\n")
        process, link = lane_server(stack, folder, f"{at}:0", "127.0.0.0/8", (), there)
        self.greedy = str(replace(Link.parse(link), key=other))
        self.target = line_with(start(stack, *there, sys.executable, HERE / "target.py", "serve"), "").strip()
        self.link, self.server, self.log = link, psutil.Process(process.pid), process.said
        command = [*self.here, sys.executable, HERE / "strangers.py", "user", transport, link]
        self.user = psutil.Popen([str(word) for word in command], stdin=-1, stdout=-1, text=True)
        stack.callback(self.user.wait)
        stack.callback(self.user.kill)

    def look(self, secs):
        """Measure for `secs`. Return the user's figures as text, and the server's CPU time and memory."""
        used = sum(self.server.cpu_times()[:2])
        self.user.stdin.write(f"{secs}\n")
        self.user.stdin.flush()
        connects, failed, trips = json.loads(self.user.stdout.readline())
        cpu = (sum(self.server.cpu_times()[:2]) - used) / secs
        return f"connect {shown(connects)} ({failed} failed), trip {shown(trips)}, CPU {cpu:.2f}"

    def memory(self):
        return self.server.memory_info().rss / 1e6

    def measure(self, attack, count, addresses, secs):
        print(f"  before: {self.look(secs)}", flush=True)
        memory = self.memory()
        program, link = ("greedy.py", self.greedy) if attack in GREEDY else ("crowd.py", self.link)
        arguments = (attack, self.transport, link, count, *self.sources[:addresses])
        environment = (*self.here, "env", f"TARGET={self.target}")
        crowd = start(self.stack, *environment, sys.executable, HERE / program, *arguments)
        time.sleep(3)
        print(f"  during: {self.look(secs)}, {self.memory() - memory:.1f} MB", end="", flush=True)
        came = [int(line.split()[1]) for line in crowd.said.read_text().splitlines()]
        print(f"; {statistics.mean(came):.0f} strangers a second")
        crowd.kill()
        time.sleep(AFTER)
        print(f"  after:  {self.look(secs)}, {self.memory() - memory:.1f} MB", flush=True)
        said = self.log.read_text()
        if "Traceback" in said:
            raise SystemExit(f"the server failed:\n{said[-2000:]}")
        print(f"  lines in the server's log: {len(said.splitlines()) - 2}", flush=True)


def place(stack):
    """The commands that run a command at the user's and at the server's end, and the addresses."""
    if lacking():
        return (), (), "127.0.0.1", [f"127.0.1.{number}" for number in range(1, 201)]
    made = stack.enter_context(lab(WIRE))
    here, sources = made.prefix("c"), [f"10.9.0.{number}" for number in range(11, 211)]
    lines = "".join(f"address add {source}/32 dev lo\n" for source in sources)
    batch = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "addresses"
    batch.write_text(lines)
    made.start("c", "ip", "-batch", batch).wait()
    return here, made.prefix("s"), "10.9.0.2", sources


def main():
    if sys.argv[1:2] == ["user"]:
        User(sys.argv[2], Link.parse(sys.argv[3])).run()
        return
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--attacks", default=",".join((*ATTACKS, *GREEDY)))
    parser.add_argument("--transports", default="tls,quic")
    parser.add_argument("--count", type=int, default=1200)
    parser.add_argument("--addresses", default="1,200")
    parser.add_argument("--secs", type=float, default=8)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no lab remains
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    for attack in args.attacks.split(","):
        for transport in args.transports.split(","):
            if transport not in ATTACKS.get(attack, ("tls", "quic")):
                continue
            for addresses in map(int, args.addresses.split(",")):
                print(f"{attack}, {args.count} at once from {addresses} addresses, {transport}", flush=True)
                with ExitStack() as stack:
                    Scene(stack, transport, place(stack)).measure(attack, args.count, addresses, args.secs)


if __name__ == "__main__":
    main()
