"""Users of one server beside each other: what they are held to, and how they share what is full.

    python bench/users.py [--what rates,fair] [--where loopback,L1] [--transports tls,quic]
                          [--secs 10] [--many 100] [--first many] [--share 0.2] [--json FILE]

    rates    one user downloads, then uploads, over four connections at once, held to a rate; another user
             without a rate exchanges small messages: the rate set and got, where the bytes arrive, and the
             p99 of these exchanges beside that while nobody else does anything
    fair     a user with --many downloads and one with a single download, two seconds apart (--first many|one
             begins): the part of the second user of what both get, after one second for the later one's start

A transport of two, such as tls+quic, is that of the user with many downloads and that of the other one.

On loopback the server is held to --share of a core (cgroup; needs root), so that it is what is full. L1 is
an emulated link of 30 Mbit/s and 50 ms (netlab; needs root). What is not there is left out, with the reason.
"""

import argparse
import json
import signal
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from labs import LINKS, SERVER, about, lab, lacking
from processes import lane_client, link_of, start
from target import Load
from workers import Held

from lane import state
from lane.link import Link
from lane.users.account import Account

USERS = {"one": bytes([1]) * 32, "many": bytes([2]) * 32}
RATES = {"loopback": (8, 50, 200), "L1": (2, 10)}
"""Mbit/s."""
WARM = 1.0
AHEAD = 2.0


class Bed:
    """A server with two users, each with a client, and applications of each. Ends with `stack`."""

    def __init__(self, stack, where, transport, rates=None, share=None):
        here = there = ()
        self.host = "127.0.0.1"
        if where != "loopback":
            self._lab = stack.enter_context(lab(LINKS[where]))
            here, there, self.host = self._lab.prefix("c"), self._lab.prefix("s"), SERVER
        folder = Path(stack.enter_context(TemporaryDirectory()))
        state.keep(folder)
        accounts = state.open_accounts(folder)
        for name, key in USERS.items():
            rate = (rates or {}).get(name)
            accounts.add(Account(name, key, rate=rate and round(rate * 125e3)))
        accounts.close()
        self.server = start(
            stack, *there, sys.executable, "-m", "lane", "server",
            "--state-dir", folder, "--listen", f"{self.host}:0", "--allow", "127.0.0.0/8",
        )  # fmt: skip
        link = Link.parse(link_of(self.server))
        if share:
            held = Held(stack, "users", share)
            held.hold(self.server.pid)
            stack.callback(self.server.wait)
            stack.callback(self.server.kill)
        self.loads, target = {}, None
        transports = dict(zip(("many", "one"), transport.split("+") * 2, strict=False))
        for name, key in USERS.items():
            port = lane_client(
                stack, transports[name], str(replace(link, key=key)), ("--control", "off"), here
            )[1]
            if target is None:
                load = Load(stack, lambda *how: start(*how[:1], *there, *how[1:]), port, prefix=here)
                target = load.other
            else:
                load = target(port)
            self.loads[name] = load


def rates_of(args, where, transport):
    """Rows: direction, Mbit/s set and got, p99 of another user's exchanges in ms, and without any load."""
    rows = []
    for rate in RATES[where]:
        for way in ("down", "up"):
            with ExitStack() as stack:
                bed = Bed(stack, where, transport, {"many": rate})
                one, many = bed.loads["one"], bed.loads["many"]
                alone = p99(one.exchanges(3))
                many.start(way, 4)
                time.sleep(WARM)
                with ThreadPoolExecutor(1) as pool:
                    moved = many.moved if way == "down" else one.other().arrived
                    before, begin = moved()
                    beside = pool.submit(one.exchanges, args.secs)
                    time.sleep(args.secs)
                    after, end = moved()
                got = (after - before) * 8 / (end - begin) / 1e6
                other = p99(beside.result())
                rows.append((way, rate, got, other, alone))
                print(
                    f"{where:9} {transport:8} {way:5} set {rate:6.1f}  got {got:7.2f} Mbit/s"
                    f" ({got / rate - 1:+6.1%}); p99 of another user {other:6.1f} ms, alone {alone:6.1f}",
                    flush=True,
                )
    return rows


def p99(times):
    return statistics.quantiles(times, n=100)[98] if len(times) > 1 else float("nan")


def shares(args, where, transport):
    """The parts of the user with one download: of all, and of the last half; and Mbit/s of both together."""
    with ExitStack() as stack:
        bed = Bed(stack, where, transport, share=args.share if where == "loopback" else None)
        one, many = bed.loads["one"], bed.loads["many"]
        todo = [(many, args.many), (one, 1)]
        for load, count in todo if args.first == "many" else reversed(todo):
            time.sleep(AHEAD)
            load.start("down", count)
        time.sleep(WARM)
        looks = [(one.moved(), many.moved())]
        for _ in range(2):
            time.sleep(args.secs / 2)
            looks.append((one.moved(), many.moved()))
    first, middle, last = ([moved for (moved, _) in look] for look in looks)
    took = looks[-1][0][1] - looks[0][0][1]
    both = [b - a for a, b in zip(first, last, strict=True)]
    late = [b - a for a, b in zip(middle, last, strict=True)]
    total = sum(both) * 8 / took / 1e6
    part, then = (each[0] / max(1, sum(each)) for each in (both, late))
    print(
        f"{where:9} {transport:8} one download beside {args.many}: {part:.2f} of {total:.1f} Mbit/s"
        f" ({then:.2f} in the second half)",
        flush=True,
    )
    return {"part": part, "second_half": then, "mbps": total}


def missing(what, where, args):
    """Why this can't be measured here; empty if it can."""
    if where != "loopback":
        needs = lacking()
        return f"netlab needs {' and '.join(needs)}" if needs else ""
    if what == "fair":
        with suppress(OSError), ExitStack() as stack:
            Held(stack, "try", args.share)
            return ""
        return "no process can be held to a share of a core here"
    return ""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", default="rates,fair")
    parser.add_argument("--where", default="loopback,L1")
    parser.add_argument("--transports", default="tls,quic")
    parser.add_argument("--secs", type=float, default=10.0)
    parser.add_argument("--many", type=int, default=100)
    parser.add_argument("--first", choices=("many", "one"), default="many")
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no lab remains
    found = {}
    for what in args.what.split(","):
        for where in args.where.split(","):
            if why := missing(what, where, args):
                print(f"{what} {where}: left out: {why}")
                continue
            for transport in args.transports.split(","):
                measure = {"rates": rates_of, "fair": shares}[what]
                found[f"{what} {where} {transport}"] = measure(args, where, transport)
    if args.json:
        Path(args.json).write_text(json.dumps({**about(), "found": found}, indent=1))


if __name__ == "__main__":
    main()
