"""An emulated link with a target at its far end, and proxies across it.

bench/networks.py, bench/buffers.py, bench/auto.py and bench/story.py use it. It needs root and netlab:
LANE_NETLAB, or shared/netlab/netlab beside the checkout.
"""

import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from processes import Failed, line_with, start
from proxies import Place, available, pair, sing_box

BENCH = Path(__file__).parent
NETLAB = Path(os.environ.get("LANE_NETLAB") or BENCH.parents[1] / "shared" / "netlab" / "netlab")
SERVER = "10.9.0.2"
CORRUPT = 3
"""The exit status of bench/load.py if data differ. It ends a benchmark."""
LATE = 300
"""Average delay of the emulator, microseconds, above which it had too little CPU time."""


@dataclass(frozen=True)
class Link:
    rate: int
    """Mbit/s of IP packets."""
    rtt: int
    """ms"""
    loss: int
    """Percent, each way."""
    ceiling: float
    """The most payload, Mbit/s."""

    def __str__(self):
        return f"{self.rate} Mbit/s, {self.rtt} ms, {self.loss} % loss"


LINKS = {
    "L1": Link(30, 50, 0, 28.3),
    "L3": Link(30, 50, 2, 27.7),
    "L2": Link(30, 50, 10, 25.5),
    "L4": Link(100, 200, 1, 93),
}


class Lab:
    """A running link, and the processes at its ends: "c" for the applications, and "s" for the server."""

    def __init__(self, name, link, stack):
        self.name, self.link, self.stack = name, link, stack
        self.lane_options = []
        self.buffer = 0
        """Of a connection, bytes, for proxies that can be told; 0 is their default."""
        self._pair = None

    def prefix(self, side):
        return [NETLAB, "exec", self.name, side, "--"]

    def start(self, side, *command):
        return start(self.stack, *self.prefix(side), *command)

    def folder(self):
        """An empty folder that exists as long as the lab."""
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory()))

    def load(self, side, *arguments, proxy=None):
        """Start a process of bench/load.py. `finish` waits for its output."""
        through = ["--proxy", f"127.0.0.1:{proxy}"] if proxy else []
        return self.start(side, sys.executable, BENCH / "load.py", *arguments, *through)

    def set(self, *options):
        """Change the link while traffic flows."""
        netlab("set", self.name, *options)

    def late(self):
        """The average delay of packets by the emulator, microseconds, in the worse direction."""
        stats = json.loads(netlab("stats", self.name))
        return max(stats[way]["late_mean_us"] for way in ("up", "down"))

    def contend(self, contender, number=0):
        """Start a client and a server: the port of the client's SOCKS5, None for `direct`.

        `number` tells several pairs in one lab apart.
        """
        ends = tuple(self.prefix("c")), tuple(self.prefix("s"))
        ports = 1080 + number, 4433 + number
        place = Place(SERVER, *ends, ports, self.link.rate, tuple(self.lane_options), self.buffer)
        self._pair = pair(self.stack, contender, place)
        return self._pair and self._pair.port

    def cpu(self):
        """The CPU seconds of the newest client and its server; empty without them."""
        ends = (self._pair.client, self._pair.server) if self._pair else ()
        times = [psutil.Process(process.pid).cpu_times() for process in ends]
        return [each.user + each.system for each in times]


def netlab(*arguments):
    command = [NETLAB, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise SystemExit(f"netlab {shlex.join(command[1:])}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def lab(link, *options, cc="cubic", seed=1):
    """A new lab with the target of the load. All processes in it end with it.

    `cc` is the congestion control of TCP at both ends. `seed` determines the lost packets.
    """
    name = f"bench{os.getpid()}"
    shape = ("--rate", f"{link.rate}mbit", "--rtt", f"{link.rtt}ms", "--loss", f"{link.loss}%")
    netlab("up", "--name", name, *shape, "--seed", seed, "--cc", cc, *options)
    try:
        with ExitStack() as stack:
            made = Lab(name, link, stack)
            line_with(made.start("s", sys.executable, NETLAB.parent / "measure.py", "server"), "ready")
            yield made
    finally:
        netlab("down", name)


def finish(process, timeout):
    """Wait for a process of bench/load.py, and return its result."""
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise Failed(f"{shlex.join(process.args)}\nnot done after {timeout} s") from None
    said = process.said.read_text()
    if status:
        kind = SystemExit if status == CORRUPT else Failed
        raise kind(f"{shlex.join(process.args)}\n{said.strip()}")
    return json.loads(said.splitlines()[-1])


def end(process):
    """End a running bulk transfer."""
    process.send_signal(signal.SIGTERM)
    return finish(process, 120)


def mbps(result, secs=0):
    """The rate of a bulk transfer. A broken one counts as if it had continued for `secs` without data."""
    return result["bytes"] * 8 / max(result["secs"], secs) / 1e6


def mbps_after(result, skip, secs):
    """The rate of a download of `secs`, without its first `skip` seconds."""
    return sum(result["per_second"][skip:]) / (int(secs) - skip)


def lacking():
    """The requirements of an emulated link that are missing here. The tests use it too."""
    needs = {
        "the user root": os.geteuid() == 0,
        str(NETLAB): NETLAB.exists(),
        "/dev/net/tun": Path("/dev/net/tun").exists(),
        "iproute2": shutil.which("ip"),
        "gcc": shutil.which("gcc"),
    }
    return [what for what, there in needs.items() if not there]


def prepare(contenders):
    """The contenders that can be measured here. If there are none, print that and exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no lab remains
    if missing := lacking():
        print(f"left out: netlab needs {' and '.join(missing)}")
        sys.exit(0)
    return available(contenders)


def python():
    """The Python of the benchmark, which is lane's. Builds without optimisation are 5 to 17 % slower."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    how = "with" if optimised else "without"
    return f"Python {platform.python_version()}, {how} profile-guided optimisation"


def about():
    """The command line and the versions that gave the results."""
    version = [sing_box(), "version"] if sing_box() else ["true"]
    done = subprocess.run(version, capture_output=True, text=True, check=True)
    commit = subprocess.run(
        ["git", "-C", BENCH, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "command": shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "lane": commit.stdout.strip(),
        "others": done.stdout.partition("\n")[0],
        "cpus": os.cpu_count(),
        "python": python(),
        "kernel": os.uname().release,
    }
