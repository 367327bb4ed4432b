"""Users of one server beside each other: what they are held to, and how they share what is full.

    python bench/users.py [--what rates,fair] [--where loopback,L1] [--transports tls,quic]
                          [--secs 10] [--ways down] [--counts 100,1] [--share 0.2] [--json FILE]

    rates    one user downloads, then uploads, over four connections at once, held to a rate; another user
             without a rate exchanges small messages: the rate set and got, where the bytes arrive, and the
             p99 of these exchanges beside that while nobody else does anything
    fair     users with so many downloads (uploads with --ways up) as --counts says, who begin two seconds
             apart: the part of each one of what all get, after one second for the last one's start

A transport of several, such as tls+quic, is that of the first user, of the second one, and so on.

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
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from labs import LINKS, SERVER, about, lab, lacking
from processes import lane_client, link_of, start
from target import Load
from workers import Held

from lane import state
from lane.link import Link
from lane.users.account import Account

RATES = {"loopback": (8, 50, 200), "L1": (2, 10)}
"""Mbit/s."""
WARM = 1.0
AHEAD = 2.0


class Bed:
    """A server with users, each with a client, and applications of each (`loads`). Ends with `stack`.

    `rates`: Mbit/s that each user may, or None.
    """

    def __init__(self, stack, where, transport, rates, share=None):
        here = there = ()
        self.host = "127.0.0.1"
        if where != "loopback":
            self._lab = stack.enter_context(lab(LINKS[where]))
            here, there, self.host = self._lab.prefix("c"), self._lab.prefix("s"), SERVER
        folder = Path(stack.enter_context(TemporaryDirectory()))
        state.keep(folder)
        accounts = state.open_accounts(folder)
        keys = [bytes([number + 1]) * 32 for number in range(len(rates))]
        for number, (key, rate) in enumerate(zip(keys, rates, strict=True)):
            accounts.add(Account(f"user{number}", key, rate=rate and round(rate * 125e3)))
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
        self.loads = []
        for key, how in zip(keys, cycle(transport.split("+"))):
            port = lane_client(stack, how, str(replace(link, key=key)), ("--control", "off"), here)[1]
            if self.loads:
                self.loads.append(self.loads[0].other(port))
            else:
                self.loads.append(
                    Load(stack, lambda *how: start(*how[:1], *there, *how[1:]), port, prefix=here)
                )


def rates_of(args, where, transport):
    """Rows: direction, Mbit/s set and got, p99 of another user's exchanges in ms, and without any load."""
    rows = []
    for rate in RATES[where]:
        for way in ("down", "up"):
            with ExitStack() as stack:
                one, many = Bed(stack, where, transport, (None, rate)).loads
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
    """The parts of the users: of all, and of the last half; and Mbit/s of all together."""
    counts, found = [int(count) for count in args.counts.split(",")], {}
    for way in args.ways.split(","):
        with ExitStack() as stack:
            share = args.share if where == "loopback" else None
            loads = Bed(stack, where, transport, [None] * len(counts), share).loads
            for load, count in zip(loads, counts, strict=True):
                time.sleep(AHEAD)
                load.start(way, count)
            time.sleep(WARM)
            looks = [[load.moved() for load in loads]]
            for _ in range(2):
                time.sleep(args.secs / 2)
                looks.append([load.moved() for load in loads])
        took = looks[-1][0][1] - looks[0][0][1]
        first, middle, last = ([moved for moved, _ in look] for look in looks)
        total = (sum(last) - sum(first)) * 8 / took / 1e6
        parts, later = parts_of(first, last), parts_of(middle, last)
        print(
            f"{where:9} {transport:8} {way:4} {args.counts}: {in_words(parts)} of {total:.1f} Mbit/s"
            f" ({in_words(later)} in the second half)",
            flush=True,
        )
        found[way] = {"parts": parts, "second_half": later, "mbps": total}
    return found


def parts_of(before, after):
    moved = [b - a for a, b in zip(before, after, strict=True)]
    return [each / max(1, sum(moved)) for each in moved]


def in_words(parts):
    return " ".join(f"{part:.2f}" for part in parts)


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
    parser.add_argument("--ways", default="down")
    parser.add_argument("--counts", default="100,1")
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
