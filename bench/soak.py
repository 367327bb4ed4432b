"""Does lane run for a long time without leaks and errors? All features at once, for any time.

    python bench/soak.py [--minutes 20] [--json FILE] [--plot FILE [--replot]] [--keep FOLDER]

A server and two clients run all the time. One client chooses its transport itself. The other has small
buffers, and a plugin makes it change its transport all the time. A third client starts and ends once a
cycle, every other time by a kill. Their applications use SOCKS5 (CONNECT, BIND, UDP ASSOCIATE), SOCKS4a,
HTTP (CONNECT and http://), --forward of TCP and UDP, --reverse, rules, and as root --redirect. They do many
short exchanges, some at full speed, and one-way transfers and idle sessions for the whole run. Some are
refused, leave in the middle or send nonsense. Once a cycle TCP goes silent, then UDP, then both. The
network forgets all its connections. All processes get SIGHUP. An address is added or removed.

It fails, with exit status 1, if
  - anything still grows in the last half: memory, descriptors, greenlets, threads, objects, or the tables in
    `lane.census`, at both ends (bench/growth.py defines growth);
  - data differ, or an answer ends cleanly too early;
  - an exchange fails outside of a blackout (unless connections were forgotten: the one with the request may
    be among them), or a session breaks that should survive both;
  - a process ends, does not report its counts, or has an error in its log, or a part of the load did nothing.
"""

import argparse
import json
import re
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import growth
import soak_plot
from labs import about
from soak_kinds import SELDOM, SHORT, TIMEOUT
from soak_world import World, enter_space

CYCLE_MOST, CYCLE_LEAST, CYCLES = 60, 12, 20
"""Seconds of a cycle, and how many there should be."""
SAMPLES = 12
"""Samples in each cycle."""
LEAST_PARTS = 6
"""The fewest parts of the judged half. With more cycles than that, each part is a cycle."""
BLACKOUT_MOST = 6
"""The longest blackout, seconds. Every session survives much longer ones."""
SETTLE = 5
"""Seconds after a blackout in which exchanges may still fail because of it."""
LEAST = {
    "rss": (8e6, 0.05),  # creeps up to the highest peak, which is a matter of chance: `heap` has what is used
    "heap": (2e6, 0.05),
    "budget": (1e6, 0.05),
    "objects": (2000, 0.02),
    "blocks": (4000, 0.02),
    "threads": (2, 0.0),
    "greenlets": (8, 0.05),
    "quic_ids": (50, 0.05),
    "spares": (64, 0.0),  # they come and go with each loss, up to lane.carriers.spares.KEPT
    "descriptors": (5, 0.1),  # of which those are a part, and carriers, too
    "carriers": (5, 0.1),
}
"""Growth in the last half that counts: so much, and a part of the level. Bytes of memory, else numbers."""
OTHERS = (5, 0.05)
"""The same for all other tables."""
SHORT_RUN = 240
"""Seconds below which a run has looser limits. Everything is still warming up, and tests may keep the machine
busy. Then answers are late, as in a network failure."""
ROUGHLY = 8, 2 / 3
"""The growth that counts then: a factor for the usual amount, and a part of the level."""
TOLERATED = 0.1
"""Fraction of exchanges that may fail then without a blackout. Data must never differ."""
SHOWN = 12
"""The most failures that are printed."""


class Run:
    """One run. `secs` does not include the time to start and to end."""

    def __init__(self, secs, space, folder=None):
        self.secs, self.space, self._folder = secs, space, folder
        self.rough = secs < SHORT_RUN
        self.cycle = min(CYCLE_MOST, max(CYCLE_LEAST, secs / CYCLES))
        self.samples = {}
        self.events, self.moves, self.choices = [], set(), []
        self.faults = []

    def carry_out(self, stack):
        every = 4.0 if self.rough else 1.0
        world = self.world = World(stack, every, self.cycle / 4, self.rough, self.space, self._folder)
        self.began = time.monotonic()
        print(f"a cycle takes {self.cycle:g} s; after {self.secs:g} s all comes to its end", flush=True)
        over = threading.Event()
        samplers = [threading.Thread(target=self._keep_sampling, args=(lane, over)) for lane in world.steady]
        for sampler in samplers:
            sampler.start()
        try:
            for at, name, what in sorted(self._plan(), key=lambda step: step[0]):
                time.sleep(max(0, self.began + at - time.monotonic()))
                if any(lane.process.poll() is not None for lane in world.steady):
                    break  # the end says it
                if name:
                    self.events.append([self._now(), name])
                what()
        finally:
            over.set()
            for sampler in samplers:
                sampler.join()
        world.end()
        self.faults += world.faults

    def _plan(self):
        """The events (second, name, function), in any order."""
        world, cycle = self.world, self.cycle
        blackout = min(BLACKOUT_MOST, 0.1 * cycle)
        steps = [
            (0.02, "a client comes", lambda: world.visit(0.4 * cycle)),
            (0.20, "TCP is lost", lambda: world.silence("tcp")),
            (0.32, "all passes", world.silence),
            (0.45, "all is forgotten", world.forget),
            (0.50, "an address changes", world.flap),
            (0.55, "SIGHUP", self._hang_up),
            (0.60, "UDP is lost", lambda: world.silence("udp")),
            (0.72, "all passes", world.silence),
            (0.80, "blackout", lambda: world.silence("tcp", "udp")),
            (0.80 + blackout / cycle, "all passes", world.silence),
            (0.99, None, self._say),
        ]
        for number in range(int(self.secs / cycle)):
            for part, name, what in steps:
                yield (number + part) * cycle, name, what

    def _now(self):
        return round(time.monotonic() - self.began, 2)

    def _hang_up(self):
        self.world.write_rules()
        for lane in self.world.steady:
            lane.process.send_signal(signal.SIGHUP)

    def _keep_sampling(self, lane, over):
        """Take samples, in a separate thread, since answers may be slow on a busy machine."""
        step, series = self.cycle / SAMPLES, self.samples.setdefault(lane.name, {})
        while not over.wait(step - self._now() % step):
            held = lane.holds()
            if held is None:
                self.faults.append(f"{lane.name} did not say what it holds at {self._now()} s")
                continue
            for name, value in held.items():
                series.setdefault(name, []).append((self._now(), value))
            if lane is not self.world.server and (said := lane.why()):
                self.moves |= {(lane.name, change["time"]) for change in said["changes"]}
                if lane is self.world.client:
                    self.choices.append([self._now(), said["choice"]])

    def _say(self):
        held = [
            f"{lane} {newest(tables, 'rss') / 1e6:.0f} MB, {newest(tables, 'descriptors')} descriptors,"
            f" {newest(tables, 'greenlets')} greenlets, {newest(tables, 'sessions')} sessions"
            for lane, tables in self.samples.items()
        ]
        print(f"{self._now():.0f} s: {'; '.join(held)}; {len(self.moves)} moves", flush=True)

    # The verdict

    def judge(self):
        """The growing series and the failures as text, and the counts."""
        grows = self._growth()
        failed = [*self.faults]
        account, excused, minor = Counter(), 0, []
        for load in self.world.loads:
            name = load.client.name
            failures, told = load.told()
            for failure in failures:
                when = f"{failure['begin'] - self.began:.1f}..{failure['end'] - self.began:.1f} s"
                line = f"{name}: {failure['kind']} at {when}: {failure['error']}"
                if self._is_excused(failure, load):
                    excused += 1
                else:
                    (failed if failure["grave"] else minor).append(line)
            failed += [f"{name}: {line}" for line in load.complaints()]
            if told is None:
                failed.append(f"{name}: its applications did not come to their end")
                continue
            account.update(told["done"])
            if load.client in self.world.steady:
                failed += [f"{name}: nothing was done of {kind}" for kind in self._undone(load, told)]
        if self.rough and len(minor) <= TOLERATED * account.total():
            excused += len(minor)
        else:
            failed += minor
        if not self.moves:
            failed.append("nothing moved from one transport to the other")
        for lane in self.world.steady:
            what = "the accounts" if lane.name == "server" else "rules"
            if not re.search(f"read again on SIGHUP: .*{what}", lane.log.read_text()):
                failed.append(f"{lane.name} did not read {what} again")
        return grows, failed, {"done": dict(account), "excused": excused, "moves": len(self.moves)}

    def _undone(self, load, told):
        redirected = self.space and load.client.name == "client"
        wanted = [kind for kind in SHORT if kind != "redirect" or redirected]
        if self.rough:
            wanted = [kind for kind in wanted if kind not in SELDOM]
        lasting = [kind for kind in ("down", "up", "talk") if not told["bytes"].get(kind)]
        return [kind for kind in wanted if not told["done"].get(kind)] + lasting

    def _is_excused(self, failure, load):
        """Whether a failure is due to a blackout, or to the kill of its client.

        A long session has no excuse, since it must survive both, unless it was never established.
        """
        if load.killed is not None and failure["end"] >= load.killed:
            return True
        lasting = failure["long"] and failure["end"] - failure["begin"] > TIMEOUT
        if failure["grave"] or lasting:
            return False
        for begin, end in self.world.outages(load.client):
            until = end + SETTLE if end > begin else end
            if failure["begin"] < until and failure["end"] > begin:
                return True
        return False

    def _growth(self):
        """The Trend of each sampled series, by "PROCESS NAME"."""
        parts = min(growth.PARTS, max(LEAST_PARTS, round(self.secs / 2 / self.cycle)))
        found = {}
        for lane, tables in self.samples.items():
            for name, samples in tables.items():
                absolute, relative = LEAST.get(name, OTHERS)
                if self.rough:
                    absolute, relative = absolute * ROUGHLY[0], ROUGHLY[1]
                try:
                    found[lane, name] = growth.trend(samples, absolute, relative, parts)
                except growth.TooFew as error:
                    self.faults.append(f"{lane}: too few samples of {name}: {error}")
        return found

    def types(self, name):
        """The types with more objects in the last quarter than in the previous one: (type, difference)."""
        lane = next(lane for lane in self.world.steady if lane.name == name)
        before, after = {}, {}
        for line in lane.types.read_text().splitlines() if lane.types.exists() else []:
            when, counts = json.loads(line)
            part = (when - self.began) / self.secs
            if 0.5 <= part < 0.75:
                before = counts
            elif part >= 0.75:
                after = counts
        more = {kind: count - before.get(kind, 0) for kind, count in after.items()}
        return sorted(((kind, n) for kind, n in more.items() if n > 20), key=lambda one: -one[1])[:10]


def newest(tables, name):
    return tables[name][-1][1] if name in tables else 0


def amount(name, value):
    return f"{value / 1e6:.1f} MB" if name in soak_plot.BYTES else f"{value:.0f}"


def report(run):
    """Print the verdict. Return the result for --json, and whether it is bad."""
    trends, failed, counts = run.judge()
    growing = {key: trend for key, trend in trends.items() if trend.grows}
    print(f"done: {', '.join(f'{kind} {n}' for kind, n in sorted(counts['done'].items()))}")
    print(f"{counts['moves']} moves; {counts['excused']} failures in blackouts or otherwise excused")
    for (lane, name), trend in growing.items():
        half = f"{amount(name, trend.rise)} in the last {run.secs / 2:.0f} s"
        print(f"GROWS: {name} of {lane}: by {half}, to {amount(name, trend.level)}")
    for lane in dict.fromkeys(lane for lane, _ in growing):
        print(f"  objects of {lane} of which there are more: {run.types(lane)}")
    for line in failed[:SHOWN]:
        print(f"FAILED: {line}")
    if len(failed) > SHOWN:
        print(f"FAILED: and {len(failed) - SHOWN} more")
    print("nothing grows, and nothing failed" if not (growing or failed) else "NOT well", flush=True)
    result = {
        **about(),
        "secs": run.secs,
        "cycle": run.cycle,
        "events": run.events,
        "choices": run.choices,
        "samples": run.samples,
        "trends": [{"lane": lane, "name": name, **vars(trend)} for (lane, name), trend in trends.items()],
        "failed": failed,
        **counts,
    }
    return result, bool(growing or failed)


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--json", metavar="FILE", help="for all that was measured")
    parser.add_argument("--plot", metavar="FILE", help="an SVG of all series")
    parser.add_argument("--replot", action="store_true", help="only draw what the file of --json has")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="a new one, for all logs")
    parser.add_argument("--in-space", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.replot:
        if not (args.json and args.plot):
            parser.error("--replot needs --json and --plot")
        return draw(json.loads(Path(args.json).read_text()), args.plot)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    space = enter_space()
    if args.keep:
        args.keep.mkdir(mode=0o700)
    run = Run(args.minutes * 60, space, args.keep and args.keep.resolve())
    with ExitStack() as stack:
        run.carry_out(stack)
        result, bad = report(run)
    if args.json:
        Path(args.json).write_text(json.dumps(result) + "\n")
    if args.plot:
        draw(result, args.plot)
    return int(bad)


def draw(result, file):
    try:
        soak_plot.draw(result, file)
    except ImportError:
        print(f"no matplotlib: no plot (pip install matplotlib, then {shlex.join(sys.argv)} --replot)")


if __name__ == "__main__":
    sys.exit(main())
