"""The processes of bench/soak.py: a server, permanent and temporary clients, and their applications.

Everything runs on loopback. As root it is in a separate network namespace, which ends with its last
process. Only there may packets be redirected, and addresses added and removed.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from middleman import Middleman
from processes import LANE, line_with, link_of, start
from soak_kinds import BLOCKED, DIRECT, SHORT
from soak_target import UDP_HOST

from lane.asking import ask
from lane.errors import Unreachable

BENCH = Path(__file__).parent
REDIRECTED = "203.0.113.1"
"""The target of applications without a proxy setting. Their packets are redirected."""
NOBODY = 65534
"""The user of these applications. The server's own connections must not be redirected."""
FLAPS = "192.0.2.77"
"""An address that is added and removed."""
VISITED = "socks5,connect,http,udp,bulk,abort,down,idle"
"""The exchanges of a temporary client's applications."""
ANSWER = 30
"""Seconds in which a process must report its counts: longer than any pause of a busy machine."""
KINDS = {"auto": {"tcp", "udp"}, "quic": {"udp"}, "tls": {"tcp"}}
"""The protocols below each transport. It has an outage while all of them are silent."""
LAST_WORDS = 60
"""Seconds in which a process must end when it is told to."""
PAGE = resource.getpagesize()


def enter_space():
    """Restart the program in a network namespace, if possible. Return whether this is the restarted one."""
    if "--in-space" in sys.argv:
        run("ip", "link", "set", "lo", "up")
        run("ip", "address", "add", f"{REDIRECTED}/32", "dev", "lo")
        return True
    lacking = [tool for tool in ("ip", "iptables", "unshare") if not shutil.which(tool)]
    lacking += ["root"] if os.geteuid() else []
    attempt = ["unshare", "--net", "sh", "-c", "ip link set lo up && iptables -t nat -L -n"]
    if not lacking and not subprocess.run(attempt, capture_output=True, check=False).returncode:
        sys.stdout.flush()
        os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv, "--in-space"])
    print(f"left out: --redirect, which needs {' and '.join(lacking) or 'NAT in a network namespace'}")
    return False


def run(*command):
    subprocess.run(command, check=True, timeout=30, capture_output=True)


class Lane:
    """A lane process that reports its counts."""

    def __init__(self, world, name, *options, kinds=frozenset()):
        self.name, self.kinds = name, kinds
        folder = world.folder / name
        folder.mkdir(mode=0o700)
        self.log, self.types, self.control = (folder / file for file in ("log", "types", "control"))
        more = ("--log-file", self.log, "--plugin-dir", world.plugins, "--soak-types", self.types)
        more += ("--grace", "3s")  # a kept connection to a target of plain HTTP would have it wait for longer
        self.process = start(world.stack, *LANE, *options, *more)
        self._read = 0  # bytes of the log

    def holds(self):
        """The counts by name, from `lane.census`, and the memory. None if there is no report in time."""
        self._counted()
        self.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + ANSWER
        while time.monotonic() < end and self.process.poll() is None:
            if found := self._counted():
                memory = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE
                return {"rss": memory, **{k: int(v) for k, v in re.findall(r"(\w+)=(-?\d+)", found)}}
            time.sleep(0.01)
        return None

    def _counted(self):
        """The newest census in the log since the last call, if there is one."""
        if not self.log.exists():
            return None
        with self.log.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        lines = [line for line in text[:whole].decode().splitlines() if "lane.census: " in line]
        return lines[-1] if lines else None

    def faults(self):
        """The errors in its log and other output, and the number of each exception."""
        text = self.process.said.read_text() + (self.log.read_text() if self.log.exists() else "")
        found = re.findall(r"^Traceback .*\n((?: .*\n)*.*)", text, re.MULTILINE)
        lines = [line for line in text.splitlines() if " ERROR " in line]
        told = Counter([" | ".join(one.split("\n")[-5:]) for one in found] + lines)
        return [f"{count} times: {what}" for what, count in told.items()]

    def why(self):
        """The answer of `lane why`; None without one."""
        try:
            return next(ask(self.control))
        except (Unreachable, StopIteration):
            return None


class Load:
    """A process of bench/soak_load.py, at one client."""

    def __init__(self, world, client, ends, *options):
        self.client = client
        self.killed = None
        """The time at which its client was killed. Later failures do not count."""
        command = [sys.executable, BENCH / "soak_load.py", json.dumps(ends), *options]
        self.process = start(world.stack, *command)
        line_with(self.process, "began")

    def end(self):
        """Tell it to end, which takes as long as its last exchange."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(200)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def told(self):
        """(failures, counts). The counts are None if it did not end cleanly."""
        lines = [json.loads(line) for line in self.process.said.read_text().splitlines() if line[:1] == "{"]
        account = next((line for line in lines if "done" in line), None)
        return [line for line in lines if "kind" in line], account

    def complaints(self):
        return [line for line in self.process.said.read_text().splitlines() if line[:1] != "{"]


class World:
    """All processes; they end with `stack`. `space`: whether this is a separate network namespace."""

    def __init__(self, stack: ExitStack, every, move_every, rough, space, folder=None):
        self.stack, self._every, self._space = stack, every, space
        self.folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.plugins = self.folder / "plugins"
        self.plugins.mkdir(mode=0o700)  # lane refuses a folder that others may write to
        self.plugins.joinpath("soak.py").write_text((BENCH / "soak_plugins" / "soak.py").read_text())
        self.plugins.joinpath("soak.py").chmod(0o600)
        self.faults, self.silences, self.forgotten, self.loads, self._visits = [], [], [], [], []
        self._flapped = False
        target = line_with(start(stack, sys.executable, BENCH / "soak_target.py"), "ready").split()
        self.tcp, self.web, self.udp = map(int, target[1:])
        # State that is kept for a while must expire within the first half.
        self._short = ("--resume-grace", "30s", "--udp-idle-timeout", "30s") if rough else ()
        self.middleman = Middleman()
        self.server = self._serve()
        self.rules = self.folder / "rules"
        self.write_rules()
        self.client = self._stay("client", 0)
        self.mover = self._stay("mover", move_every, "--buffer-size", "64KB")
        self.steady = [self.server, self.client, self.mover]

    def _serve(self):
        allow = f"127.0.0.0/8,{REDIRECTED}/32"
        where = ("--listen", "127.0.0.1:0", "--host", f"127.0.0.1:{self.middleman.port}")
        options = ("--allow", allow, "--allow-bind", "--allow-reverse", "*", *where, *self._short[:2])
        server = Lane(self, "server", "server", "--state-dir", self.folder / "state", *options)
        self.link = link_of(server.process)
        self.middleman.start(int(line_with(server.process, "listening on").split()[2].rpartition(":")[2]))
        self.stack.callback(self.middleman.close)
        return server

    def write_rules(self):
        """Write the rules, unchanged, so that they are read again."""
        self.rules.write_text(f"block {BLOCKED}\ndirect {DIRECT}\n# {time.monotonic()}\n")

    def _stay(self, name, move_every, *options):
        """Start a client for the whole run, with all its ports, and its applications."""
        here, there = "127.0.0.1:0", f"127.0.0.1:{self.tcp}"
        forwards = f"tcp://{here}={there},udp://{here}={UDP_HOST}:{self.udp}"
        offers = ("--forward", forwards, "--reverse", f"tcp://{here}={there}", "--rules", self.rules)
        redirect = ("--redirect", here) if self._space else ()
        moving = ("--soak-move-every", move_every)
        client = self._client(name, "auto", *offers, *redirect, *moving, *options, *self._short)
        said = client.process.said.read_text()
        ends = self._ends(client)
        ends["forward"], ends["udp_forward"] = map(int, re.findall(r"forwarding 127.0.0.1:(\d+) ", said))
        ends["reverse"] = self._reversed(client)
        kinds, user = [*SHORT, "down", "up", "idle", "chat", "packets"], ()
        if self._space and name == "client":
            port = re.search(r"redirected connections on 127.0.0.1:(\d+)", said)[1]
            whose = ("-m", "owner", "--uid-owner", str(NOBODY))
            rule = ("-p", "tcp", "-d", REDIRECTED, *whose, "-j", "REDIRECT", "--to-ports", port)
            run("iptables", "-t", "nat", "-A", "OUTPUT", *rule)
            ends["redirect"], user = REDIRECTED, ("--user", NOBODY)
        else:
            kinds.remove("redirect")
        self._load(client, ends, ",".join(kinds), *user)
        return client

    def _client(self, name, transport, *options):
        client = Lane(
            self, name, "client", "--transport", transport, "--server", self.link, "--no-check",
            "--listen", "127.0.0.1:0", "--control", self.folder / name / "control", *options,
            kinds=KINDS[transport],
        )  # fmt: skip
        line_with(client.process, "try:")
        return client

    def _ends(self, client):
        port = line_with(client.process, "listening on").split()[2].rpartition(":")[2]
        return {"proxy": int(port), "tcp": self.tcp, "web": self.web, "udp": self.udp}

    def _reversed(self, client):
        end = time.monotonic() + ANSWER
        while time.monotonic() < end:
            if client.log.exists() and (
                found := re.search(r"reverse: 127.0.0.1:([1-9]\d*) of", client.log.read_text())
            ):
                return int(found[1])
            time.sleep(0.05)
        raise SystemExit(f"no reverse forward:\n{client.log.read_text()}")

    def _load(self, client, ends, kinds, *options):
        load = Load(self, client, ends, "--kinds", kinds, "--every", self._every, *options)
        self.loads.append(load)
        return load

    # The events

    def silence(self, *kinds):
        """Let the network lose the packets of `kinds` from now on."""
        self.middleman.silence(*kinds)
        now = time.monotonic()
        if self.silences and self.silences[-1][1] is None:
            self.silences[-1][1] = now
        if kinds:
            self.silences.append([now, None, set(kinds)])

    def forget(self):
        """Let the network forget all connections at once."""
        self.forgotten.append(time.monotonic())
        self.middleman.forget()

    def outages(self, client):
        """[begin, end] of the outages of `client`, and of the times when its connections were forgotten."""
        silent = [(begin, end) for begin, end, kinds in self.silences if client.kinds <= kinds]
        return silent + [(when, when) for when in self.forgotten]

    def flap(self):
        """Add or remove an address of the machine."""
        if self._space:
            self._flapped = not self._flapped
            run("ip", "address", "add" if self._flapped else "delete", f"{FLAPS}/32", "dev", "lo")

    def visit(self, secs):
        """Start a client, use it for `secs`, and end or kill it, in the background."""
        number = len(self._visits)
        thread = threading.Thread(target=self._visited, args=(number, secs), daemon=True)
        self._visits.append(thread)
        thread.start()

    def _visited(self, number, secs):
        name, transport = f"visitor{number}", [*KINDS][number % len(KINDS)]
        try:
            client = self._client(name, transport, *self._short)
            load = self._load(client, self._ends(client), VISITED)
            time.sleep(secs)
            if number % 2:
                load.killed = time.monotonic()
                client.process.kill()
                load.end()
            else:
                load.end()
                client.process.send_signal(signal.SIGTERM)
                self._must_end(client)
            self._look(client)
        except (SystemExit, OSError) as error:
            self.faults.append(f"{name}: {error}")

    def _must_end(self, lane):
        """Check that a process that was told to end does so cleanly and in time."""
        try:
            status = lane.process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            status = "not at all"
        if status != 0:
            self.faults.append(f"{lane.name} ended with {status}")

    def _look(self, lane):
        self.faults += [f"{lane.name}: {fault}" for fault in lane.faults()]

    def end(self):
        """End all processes cleanly, the applications first."""
        self.silence()
        for load in self.loads:
            if load.client in self.steady:
                load.process.send_signal(signal.SIGTERM)
        for thread in self._visits:
            thread.join(300)
        for load in self.loads:
            if load.client in self.steady:
                load.end()
        for lanes in ((self.client, self.mover), (self.server,)):
            for lane in lanes:
                lane.process.send_signal(signal.SIGTERM)
            for lane in lanes:
                self._must_end(lane)
                self._look(lane)
