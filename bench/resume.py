"""The first second of lane over QUIC on a known path: transfers over new carriers and over a warm one.

    python bench/resume.py [--rounds 5] [--only L4,L1,L3] [--size 2000000] [--json FILE]

It needs root and netlab: see bench/labs.py. Each round has a new link and a new server. Figures are the
seconds of one download, from before it connects, or its ratio to `warm`. To compare two trees, run it once
with each in PYTHONPATH, from a folder outside of both.

    cold     the first download from this server, after one small exchange
    warm     after a long download, on the same carrier: the median of three
    new      the client was started again: a download over its first carrier, and the dial is part of it
    idle     the same, but after a small exchange, so that the carrier exists
    up-warm, up-new, up-idle   the same for uploads (until all data is confirmed)
    slower   as `idle`, after the link was slowed down to a quarter: also the 99th percentile of the round
             trips of others meanwhile (ms), and the packets that the link dropped
    quarter  as `cold`, on a link that always had a quarter of the rate

With --moves, something else: a download over --transport auto on the link without losses, which begins to
lose 1 % after 8 s. TCP is cubic, so lane moves from TLS to QUIC. `after` is the goodput of the two seconds
after the move, `later` that of the last six of the download: a warm carrier's (Mbit/s).
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace

import labs
from labs import LINKS, Failed, finish
from processes import lane_client, lane_server, line_with
from scenarios import Ends, travel
from verdicts import rate

SMALL = 1000
"""Bytes of a small exchange. It is one with the target, since lane is quicker with targets that it knows."""
PAUSE = 1.5
"""Seconds after each transfer, in which the link comes to rest."""


class World:
    """A link with a lane server, and one client after the other."""

    def __init__(self, lab, transport="quic"):
        self.lab, self.transport = lab, transport
        line_with(lab.load("s", "source"), "ready")
        line_with(lab.load("s", "echo"), "ready")
        place = (lab.stack, lab.folder(), f"{labs.SERVER}:0", f"{labs.SERVER}/32")
        self.server, self.link = lane_server(*place, lab.lane_options, lab.prefix("s"))
        self.client = self.proxy = None

    def renew(self, *, exchange):
        """Start the client again. With `exchange` it makes its carrier now."""
        if self.client:
            self.client.terminate()
            self.client.wait(30)
        self.client, self.proxy = lane_client(
            self.lab.stack, self.transport, self.link, self.lab.lane_options, self.lab.prefix("c")
        )
        if exchange:
            self.fetch(SMALL)

    def load(self, *what):
        return self.lab.load("c", *what, proxy=self.proxy)

    def fetch(self, size, way="fetch"):
        found = finish(self.load(way, "--size", size), 120)["secs"]
        time.sleep(PAUSE)
        return found

    def warm_up(self, way):
        finish(self.load(way, "--secs", 8), 60)
        time.sleep(PAUSE)


def measure(link, args, seed):
    found = {}
    with labs.lab(link, seed=seed) as lab:
        world = World(lab)
        for prefix, way, bulk in (("", "fetch", "down"), ("up-", "push", "up")):
            if prefix and args.no_uploads:
                continue
            world.renew(exchange=True)
            if not prefix:
                found["cold"] = world.fetch(args.size)
            world.warm_up(bulk)
            found[f"{prefix}warm"] = statistics.median(world.fetch(args.size, way) for _ in range(3))
            world.renew(exchange=False)
            found[f"{prefix}new"] = world.fetch(args.size, way)
            world.renew(exchange=True)
            found[f"{prefix}idle"] = world.fetch(args.size, way)
        world.renew(exchange=True)
        world.warm_up("down")
        world.renew(exchange=True)
        found |= slowed(lab, world, link, args)
        found["late us"] = lab.late()
    with labs.lab(replace(link, rate=link.rate / 4), seed=seed) as lab:
        world = World(lab)
        world.renew(exchange=True)
        found["quarter"] = world.fetch(args.size)
    return found


def moved(link, args, seed):
    with labs.lab(replace(link, loss=0), seed=seed) as lab:
        lab.lane_options = ["--tcp-congestion", "system"]
        ends = Ends(lab, "auto")
        trace = travel(ends, 26, [(8, ("--loss", "1%"))])
        at = next((at for at, _, choice, *_ in trace["changes"] or () if choice == "quic"), None)
        if at is None:
            raise Failed("it did not move")
        return {"moved at": at, "after": rate(trace, at, at + 2), "later": rate(trace, 20, 26)}


def slowed(lab, world, link, args):
    lab.set("--rate", f"{link.rate / 4}mbit")
    dropped = drops(lab)
    pings = lab.load("c", "pings", "--secs", 4)
    secs = world.fetch(args.size)
    beside = sorted(finish(pings, 60)["rtt"])
    return {
        "slower": secs,
        "slower p99 ms": beside[len(beside) * 99 // 100],
        "slower drops": drops(lab) - dropped,
    }


def drops(lab):
    return json.loads(labs.netlab("stats", lab.name))["down"]["drop_queue"]


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1, help="the number of the first round, which seeds it")
    parser.add_argument("--only", default="L4", help="links")
    parser.add_argument("--size", type=int, default=2_000_000)
    parser.add_argument("--no-uploads", action="store_true")
    parser.add_argument("--moves", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    labs.prepare([])
    results = {}
    for name in args.only.split(","):
        for number in range(args.first, args.first + args.rounds):
            try:
                found = (moved if args.moves else measure)(LINKS[name], args, number)
            except Failed as failed:
                print(f"{number} {name}: ERROR {failed}", flush=True)
                continue
            results.setdefault(name, []).append(found)
            said = ", ".join(f"{what} {value:.3g}" for what, value in found.items())
            print(f"{number} {name}: {said}", flush=True)
    for name, rounds in results.items():
        for what in rounds[0]:
            values = [found[what] for found in rounds]
            middle = statistics.median(values)
            line = f"{name} {what:16}{middle:8.3f} ({min(values):.3f}..{max(values):.3f})"
            warm = "up-warm" if what.startswith("up-") else "warm"
            if what.rpartition("-")[2] in ("cold", "new", "idle") and warm in rounds[0]:
                line += f"  {middle / statistics.median(found[warm] for found in rounds):.2f} of {warm}"
            print(line)
    if args.json:
        with open(args.json, "w") as out:
            json.dump({**labs.about(), "rounds": results}, out)


if __name__ == "__main__":
    sys.exit(main())
