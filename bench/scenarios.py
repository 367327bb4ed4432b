"""Scenarios of bench/auto.py: the network or a process fails while applications run.

Each scenario gets a new lab and a transport, and returns a record: the `figures` that are judged, the
`trace` of the download, and a `note` as text. Times are seconds from the start of the download.
bench/auto.py runs the scenarios and has the limits.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import labs
import psutil
from labs import BENCH, SERVER, Failed, finish
from processes import LANE, lane_client, lane_server, line_with
from verdicts import (
    carried_by,
    chosen_after,
    longest_gap,
    most_in_a_second,
    moves,
    rate,
    recovered,
    silence,
    story,
)

STEP = 0.5
"""Seconds of each point in the series of a download."""
CLEAN_END = "closed early"
"""The error of bench/load.py for a download that ended cleanly too early."""
BLOCKED = ("--block-udp", "1", "--block-tcp", "1")
OPEN = ("--block-udp", "0", "--block-tcp", "0")
OLD, NEW = "10.9.0.1", "10.9.0.3"
"""The client's addresses."""
PATIENCE = 15
"""Seconds in which a new session must work again."""
PORT = 4433
"""The server's port, also after it was killed and started again."""


class Ends:
    """A client and its server in a lab, and the output of `lane why --follow`."""

    def __init__(self, lab, transport):
        self.lab, self._folder = lab, lab.folder()
        link = self.serve()
        self.client, self.port = lane_client(lab.stack, transport, link, lab.lane_options, lab.prefix("c"))
        at = f"127.0.0.1:{self.port}"
        self._why = lab.start("c", *LANE, "why", "--json", "--follow", "--listen", at)

    def serve(self):
        """Start the server. Its identity and its port stay the same."""
        there, rules = f"{SERVER}:{PORT}", f"{SERVER}/32"
        options, prefix = self.lab.lane_options, self.lab.prefix("s")
        self.server, link = lane_server(self.lab.stack, self._folder, there, rules, options, prefix)
        return link

    def story(self, began):
        """The lanes and the changes; None and None without `lane why`."""
        reports = []
        for line in self._why.said.read_text().splitlines():
            try:
                report = json.loads(line)
            except ValueError:
                continue  # a message, or an incomplete line
            if isinstance(report, dict) and "choice" in report:
                reports.append(report)
        return story(reports, began)

    def cpu(self):
        times = [psutil.Process(process.pid).cpu_times() for process in (self.client, self.server)]
        return sum(each.user + each.system for each in times)

    def works(self, since):
        """Seconds from `since` until an exchange on a new connection succeeded; None if none did."""
        while time.time() < since + PATIENCE:
            load = self.lab.load("c", "exchanges", "--count", 1, proxy=self.port)
            if not finish(load, 60)["errors"]:
                return round(time.time() - since, 2)
            time.sleep(0.1)
        return None


def follow(ends, began, steps):
    """Do each of `steps` (time, netlab options or a function) at its time. Return the actual times."""
    events = []
    for at, what in steps:
        time.sleep(max(0, began + at - time.time()))
        name = what.__name__ if callable(what) else " ".join(what)
        events.append([round(time.time() - began, 2), name])
        if callable(what):
            what()
        else:
            ends.lab.set(*what)
    return events


def travel(ends, secs, steps=()):
    """A download during `steps`: its trace."""
    load = ends.lab.load("c", "down", "--secs", secs, "--series", STEP, proxy=ends.port)
    began = float(line_with(load, "began").split()[1])
    events = follow(ends, began, steps)
    trace = finish(load, secs + 60)
    lanes, changes = ends.story(began)
    return {**trace, "events": events, "lanes": lanes, "changes": changes}


def record(trace, note="", **figures):
    """The record of a scenario. It "broke" if the download does not continue at the end."""
    goes_on = not trace["error"] and rate(trace, trace["secs"] - 2, trace["secs"]) > 0
    figures = {"broke": int(not goes_on), **figures}
    if trace["changes"] is not None:
        figures["moves"] = moves(trace["changes"], 0, trace["secs"])
    error = trace["error"] if figures["broke"] else None  # a broken download has an error
    return {"figures": figures, "trace": trace, "error": error, "note": note}


def places(trace, *moments):
    """The lanes that auto used. They also show whether the row tested what it should."""
    if trace["lanes"] is None:
        return "lane unknown"
    return ", ".join(f"{carried_by(trace['lanes'], moment)} at {moment:g} s" for moment in moments)


# The scenarios


def fixed(lab, transport, secs=20, skip=5):
    """A download on a link that does not change."""
    ends, used = Ends(lab, transport), []

    def cpu():
        used.append(ends.cpu())

    trace = travel(ends, secs, [(skip, cpu), (secs - STEP, cpu)])
    speed = rate(trace, skip, secs)
    size = rate(trace, skip, secs - STEP) * (secs - STEP - skip) / 8 * 1e6
    cost = (used[1] - used[0]) / size * 1e9 if size else None
    return record(trace, places(trace, secs), **{"Mbit/s": speed, "CPU s/GB": cost})


def loss_step(lab, transport, worse=15, better=40, secs=60, settle=4):
    """Losses begin and end."""
    steps = [(worse, ("--loss", "10%")), (better, ("--loss", "0%"))]
    trace = travel(Ends(lab, transport), secs, steps)
    phases = zip(("before", "10 % loss", "after"), (0, worse, better), (worse, better, secs), strict=True)
    speeds = {f"Mbit/s {name}": rate(trace, begin + settle, end) for name, begin, end in phases}
    return record(trace, places(trace, worse, better, secs), **speeds)


def flap(lab, transport, secs=120, every=5, settle=4):
    """Losses that change faster than is worth following."""
    times = range(every, secs, every)
    steps = [(at, ("--loss", f"{at // every % 2 * 4}%")) for at in times]
    trace = travel(Ends(lab, transport), secs, steps)
    return record(trace, **{"Mbit/s": rate(trace, settle, secs)})


def block(lab, transport, kind, at=10, until=30, secs=45):
    """UDP or TCP is blocked for a while. Before UDP is blocked, the link loses packets, so that auto is on
    QUIC."""
    steps = [(at, ("--loss", "0%", f"--block-{kind}", "1")), (until, (f"--block-{kind}", "0"))]
    trace = travel(Ends(lab, transport), secs, steps)
    return record(trace, places(trace, at, until, secs), gap=longest_gap(trace, at, secs))


def police(lab, transport, at=10, secs=25):
    """The network begins to slow down UDP while auto is on QUIC."""
    trace = travel(Ends(lab, transport), secs, [(at, ("--loss", "0%", "--udp-rate", "2mbit"))])
    figures = {"80 % after": recovered(trace, at, 0.8 * labs.LINKS["L1"].ceiling)}
    if trace["lanes"] is not None:
        figures["on TLS after"] = chosen_after(trace["lanes"], at, "tls")
    return record(trace, places(trace, at, secs), **figures)


def blackout(lab, transport, at=10, until=30, secs=45):
    """Nothing passes for a while."""
    trace = travel(Ends(lab, transport), secs, [(at, BLOCKED), (until, OPEN)])
    ended = trace["events"][1][0]
    return record(trace, places(trace, at, secs), **{"first byte after": silence(trace, ended, secs)})


def address(lab, transport, at=10, secs=25):
    """The client's address is replaced by another one, as in another network."""
    # Removing an address also removes others of its network. So add the new one afterwards.
    script = f"set -e; link=$(ip -o -4 address show to {OLD} | awk '{{print $2}}'); "
    script += f"ip address delete {OLD}/24 dev $link; ip address add {NEW}/24 dev $link"

    def change_address():
        if lab.start("c", "sh", "-c", script).wait(10):
            raise Failed("the address could not be changed")
        if finish(lab.load("c", "exchanges", "--count", 1), 60)["errors"]:
            raise Failed("the other end cannot be reached from the new address, even without a proxy")

    trace = travel(Ends(lab, transport), secs, [(at, ("--loss", "0%")), (at, change_address)])
    return record(trace, places(trace, at, secs), gap=longest_gap(trace, at, secs))


def stop(lab, transport, paused=120, at=10, after=10):
    """The client's machine sleeps."""
    ends, works = Ends(lab, transport), []

    def sleep():
        os.kill(ends.client.pid, signal.SIGSTOP)

    def wake_up():
        os.kill(ends.client.pid, signal.SIGCONT)
        works.append(ends.works(time.time()))

    trace = travel(ends, at + paused + after, [(at, sleep), (at + paused, wake_up)])
    woken = trace["events"][1][0]
    over = silence(trace, woken, trace["secs"])
    failed = trace["error"] and trace["error"] != CLEAN_END
    if over is None and failed:
        over = max(0, trace["secs"] - woken)
    broke = int(trace["error"] == CLEAN_END or over is None)
    note = f"the download {'went on' if not trace['error'] else 'ended: ' + trace['error']}"
    return record(trace, note, **{"over after": over, "new session": works[0], "broke": broke})


def kill(lab, transport, at=10, down=5, after=15):
    """The server is killed and starts again, without its old state."""
    ends, ready, works = Ends(lab, transport), [], []

    def kill_server():
        ends.server.kill()
        ends.server.wait()

    def start_server():
        ends.serve()
        ready.append(time.time())
        works.append(ends.works(ready[0]))

    load = ends.lab.load("c", "down", "--secs", at + down + after, "--series", STEP, proxy=ends.port)
    began = float(line_with(load, "began").split()[1])
    events = follow(ends, began, [(at, kill_server), (at + down, start_server)])
    trace = {**finish(load, 90), "events": events}
    trace["lanes"], trace["changes"] = ends.story(began)
    error, ended = trace["error"], max(0, trace["secs"] - (ready[0] - began))
    figures = {"ended after": ended if error else None, "broke": int(error in (None, CLEAN_END))}
    return record(trace, f"the download ended: {error}", **figures, **{"new session": works[0]})


def many(lab, transport, moving=100, idle=100, at=10, until=30, secs=40):
    """Many sessions on QUIC, since TCP is blocked at first. Then UDP is blocked instead."""
    ends, samples = Ends(lab, transport), []
    app = lab.start("c", *application(ends, moving, idle, 1, secs))
    began = float(line_with(app, "began").split()[1])

    def count_connections():
        while time.time() < began + secs:
            samples.append((time.time(), connections(ends.client.pid)))
            time.sleep(0.1)

    counting = threading.Thread(target=count_connections, daemon=True)
    steps = [(at, counting.start), (at, ("--block-tcp", "0", "--block-udp", "1")), (until, OPEN)]
    follow(ends, began, steps)
    done = finish(app, secs + 180)
    counting.join()
    lost, longest = done["sessions"] - done["alive"], done["longest"]
    figures = {"lost": lost, "broke": int(lost > 0), "SYNs": most_in_a_second(samples), "longest": longest}
    note = f"{done['alive']} of {done['sessions']} survived, longest exchange {longest} s"
    return {"figures": figures, "error": "; ".join(done["errors"]) or None, "note": note}


def application(ends, moving, idle, every, secs):
    counts = ("--moving", moving, "--idle", idle, "--every", every, "--secs", secs)
    return sys.executable, BENCH / "sessions.py", "--proxy", f"127.0.0.1:{ends.port}", *counts


def connections(pid):
    """The TCP connections that were started in a process's network namespace: each has sent a SYN."""
    names, values = [
        line.split() for line in Path(f"/proc/{pid}/net/snmp").read_text().splitlines() if "Tcp:" in line
    ]
    return int(values[names.index("ActiveOpens")])
