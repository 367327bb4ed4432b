"""UDP through lane and other proxies: a steady stream, DNS-like queries, many associations, a flood.

    python bench/udp.py [--rounds 3] [--secs 10] [--tests loopback,chat,wireguard,queries,many,flood]
                        [--contenders lane,lane-tls,lane-auto,hysteria2,tuic,direct] [--json FILE]

    loopback    5,000 packets of 1,200 bytes a second, each echoed: percent lost, round trips, CPU time
    chat        50 associations that each send 64 bytes 20 times a second, each echoed: CPU time of one
    wireguard   --mbit of packets of 1,280 bytes each way on L1 (30 Mbit/s, 50 ms), as from a VPN
    queries     500 queries of 40 bytes on L2 (10 % loss each way, 50 ms), repeated after 1, 2, 4 s
    many        1,000 associations with an exchange each: KB of memory for one, at the client and the server
    flood       one application sends as fast as possible: growth of memory, and another one's round trips

`wireguard` and `queries` need root and netlab: see bench/labs.py. `lane` is lane over QUIC. The contenders
take turns within each round. Figures are medians of the rounds.
"""

import argparse
import json
import statistics
import sys
import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import labs
import psutil
from labs import LINKS, Failed, finish
from processes import line_with, start
from proxies import CONTENDERS, Place, available, pair

PACKETS = Path(__file__).parent / "packets.py"
TESTS = "loopback,chat,wireguard,queries,many,flood"
NEEDS_LAB = ("wireguard", "queries")


def run(launch, *arguments, proxy=None):
    """Start a process of bench/packets.py."""
    through = ("--proxy", f"127.0.0.1:{proxy}") if proxy else ()
    return launch(sys.executable, PACKETS, *arguments, *through)


def echo(launch, host="127.0.0.1"):
    """Start an echo server, and return its address."""
    return f"{host}:{line_with(run(launch, 'echo', '--host', host), 'ready').split()[1]}"


def percentiles(times):
    return {"p50 ms": statistics.median(times), "p99 ms": times[len(times) * 99 // 100]} if times else {}


def of_stream(found):
    lost = 100 * (1 - found["came"] / found["sent"])
    return {"lost %": lost, "Mbit/s": found["mbit"], **percentiles(found["rtt"])}


class Here:
    """A pair on loopback."""

    def __init__(self, stack, contender):
        self.launch = lambda *command: start(stack, *command)
        self.pair = pair(stack, contender, Place())
        self.port = self.pair and self.pair.port
        self.target = echo(self.launch)
        self.ends = (
            [psutil.Process(end.pid) for end in (self.pair.client, self.pair.server)] if self.pair else []
        )

    def run(self, *arguments):
        return run(self.launch, *arguments, "--target", self.target, proxy=self.port)

    def cpu(self):
        return [sum(end.cpu_times()[:2]) for end in self.ends]

    def memory(self):
        return [end.memory_info().rss for end in self.ends]


def grown(here, before, unit):
    sides = zip(("client", "server"), before, here.memory(), strict=False)
    return {side: (now - then) / unit for side, then, now in sides}


def loopback(contender, args):
    with ExitStack() as stack:
        here = Here(stack, contender)
        before = here.cpu()
        found = finish(here.run("stream", "--pps", 5000, "--size", 1200, "--secs", args.secs), args.secs + 60)
        used = zip(("client CPU %", "server CPU %"), before, here.cpu(), strict=False)
        return {**of_stream(found), **{name: 100 * (now - then) / args.secs for name, then, now in used}}


def chat(contender, args):
    with ExitStack() as stack:
        here = Here(stack, contender)
        finish(here.run("queries", "--count", 20), 60)
        before = here.cpu()
        found = finish(here.run("chat", "--count", 50, "--every", 0.05, "--secs", args.secs), args.secs + 60)
        lost = 100 * (1 - found["came"] / found["sent"])
        used = zip(("client CPU ms", "server CPU ms"), before, here.cpu(), strict=False)
        each = {name: 1e3 * (now - then) / found["sent"] for name, then, now in used}
        return {"lost %": lost, **percentiles(found["rtt"]), **each}


def many(contender, args):
    with ExitStack() as stack:
        here = Here(stack, contender)
        finish(here.run("queries", "--count", 20), 60)  # the first associations have extra costs
        before = here.memory()
        holder = here.run("associate", "--count", 1000)
        opened = int(line_with(holder, "open").split()[1])
        found = grown(here, before, 1000 * 1024)
        labs.end(holder)
        return {"open": opened, **{f"{side} KB": size for side, size in found.items()}}


def flood(contender, args):
    with ExitStack() as stack:
        here = Here(stack, contender)
        calm = finish(here.run("queries", "--count", 200), 60)["rtt"]
        before = here.memory()
        flooding = here.run("flood", "--secs", args.secs)
        beside = finish(here.run("queries", "--count", 100), 300)["rtt"]
        found = finish(flooding, args.secs + 60)
        more = {f"{side} MB more": size for side, size in grown(here, before, 1e6).items()}
        times = {"calm p50 ms": statistics.median(calm), "beside p50 ms": statistics.median(beside)}
        return {"sent/s": found["sent"], "came/s": found["came"], **times, **more}


def in_lab(link, contender, args, *arguments):
    with labs.lab(LINKS[link], seed=args.seed) as lab:
        target = echo(lambda *command: lab.start("s", *command), labs.SERVER)
        proxy = lab.contend(contender)
        process = run(lambda *c: lab.start("c", *c), *arguments, "--target", target, proxy=proxy)
        found = finish(process, args.secs + 300)
        if (late := lab.late()) > labs.LATE:
            found["late us"] = late
        return found


def wireguard(contender, args):
    found = in_lab("L1", contender, args, "stream", "--mbit", args.mbit, "--size", 1280, "--secs", args.secs)
    return of_stream(found)


def queries(contender, args):
    return percentiles(in_lab("L2", contender, args, "queries", "--count", 500)["rtt"])


def show(tests, contenders, rounds):
    for test in tests:
        print(f"\n{test}")
        names = list(dict.fromkeys(n for who in contenders for one in rounds[test, who] for n in one))
        print(f"{'':14}" + "".join(f"{who:>26}" for who in contenders))
        for name in names:
            cells = []
            for who in contenders:
                values = [one[name] for one in rounds[test, who] if name in one]
                text = (
                    f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"
                    if values
                    else "-"
                )
                cells.append(f"{text:>26}")
            print(f"{name:14}" + "".join(cells))


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=10)
    parser.add_argument("--mbit", type=float, default=25)
    parser.add_argument("--tests", default=TESTS)
    parser.add_argument(
        "--contenders", default="lane,lane-tls,hysteria2,tuic,direct", help=", ".join(CONTENDERS)
    )
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    tests = args.tests.split(",")
    if unknown := set(tests) - set(TESTS.split(",")):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {TESTS}")
    given = args.contenders.split(",")
    contenders = labs.prepare(given) if set(tests) & set(NEEDS_LAB) else available(given)
    rounds = {key: [] for key in product(tests, contenders)}
    for number in range(1, args.rounds + 1):
        args.seed = number
        for test, contender in product(tests, contenders):
            if contender == "direct" and test in ("many", "flood"):
                continue
            try:
                found = globals()[test](contender, args)
            except Failed as failed:
                print(
                    f"{number}/{args.rounds} {test}, {contender}: {str(failed).splitlines()[-1]}",
                    flush=True,
                )
                continue
            rounds[test, contender].append(found)
            said = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
            print(f"{number}/{args.rounds} {test}, {contender}: {said}", flush=True)
            time.sleep(0.2)
    show(tests, contenders, rounds)
    if args.json:
        result = {
            **labs.about(),
            "rounds": [{"test": t, "contender": c, "rounds": r} for (t, c), r in rounds.items()],
        }
        Path(args.json).write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
