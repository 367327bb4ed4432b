"""Proxies on loopback, in turn: throughput, CPU time, new connections, memory, fairness.

    python bench/loopback.py [--secs 4] [--rounds 5] [--contenders lane-tls,trojan,lane,hysteria2,tuic]
                             [--tests down,down20,up,chat,cold,fair,connections,idle,busy] [--json FILE]

Each measurement starts its own client and server. bench/proxies.py has the contenders. The load and the
target run as separate processes on the same processors. Figures are medians of the rounds, with the least
and the greatest value. Compare contenders, not figures of two machines.

    down, up       one bulk transfer of --secs after a second to warm up: Mbit/s, and CPU seconds a GB of the
                   client and of the server
    down8, up20... the same with so many transfers at once, any number; also the least of them, as a fraction
                   of an equal share
    chat           50 open connections that echo 64 bytes 20 times a second each (chat8: eight): ms, and CPU
                   of both ends for each echo
    chat+down8     the same beside eight downloads; also chat8+up20, chat+down8+up8, any numbers: ms, the
                   greatest too, Mbit/s of the transfers, and CPU seconds a GB of theirs
    cold           500 connections with an exchange of 512 bytes and 4 KB each, opened by 16 workers and held,
                   through a client and a server that have just started: connections a second
    fair           exchanges (512 bytes up, 4 KB down) on new connections beside eight downloads: p99 in ms
    connections    new connections of 16 workers for --secs, with one byte each way: connections a second
    idle           --idle connections that moved 1 MB each and stay open: resident KB per connection
    busy           a download beside so many idle connections: its rate relative to that without them, and
                   resident KB for each
    stalled        the same beside a fifth as many endless downloads, of which nobody reads more than 1 MB
"""

import argparse
import json
import os
import re
import statistics
import sys
import time
from contextlib import ExitStack

import psutil
from labs import about, python
from processes import start
from proxies import CONTENDERS, Place, available, pair
from target import Load

TESTS = "down,down8,down20,down100,up,up20,chat,cold,connections,fair,idle,busy,stalled"
WARM = 1.0


def cpu(process):
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def resident(process):
    return psutil.Process(process.pid).memory_info().rss / 1024


def bulk(way, streams):
    def measure(found, load, args):
        load.start(way, streams)
        time.sleep(WARM + streams / 50)
        before, begin = [cpu(process) for process in found], load.each()
        time.sleep(args.secs)
        after, end = [cpu(process) for process in found], load.each()
        sizes, elapsed = [b - a for a, b in zip(begin[0], end[0], strict=True)], end[1] - begin[1]
        used = [(b - a) / sum(sizes) * 1e9 for a, b in zip(before, after, strict=True)]
        least = {"least": min(sizes) * streams / sum(sizes)} if streams > 1 else {}
        return {"Mbit/s": sum(sizes) * 8 / elapsed / 1e6, **dict(zip(CPU, used, strict=False)), **least}

    return measure


def chat(count):
    def measure(found, load, args):
        load.chat(count, 1)  # warm
        before = [cpu(process) for process in found]
        times = sorted(load.chat(count, args.secs))
        used = [(cpu(process) - b) / len(times) * 1000 for process, b in zip(found, before, strict=True)]
        return {**quantiles(times), **dict(zip(CPU_EACH, used, strict=False))}

    return measure


def chat_beside(count, ways):
    """`ways`: the bulk transfers, (down or up, how many)."""

    def measure(found, load, args):
        bulks = {way: load.apart() for way, _ in ways}
        for way, streams in ways:
            bulks[way].start(way, streams)
        load.chat(count, WARM)
        before, begin = [cpu(process) for process in found], {way: bulks[way].moved() for way in bulks}
        times = sorted(load.chat(count, args.secs))
        after, end = [cpu(process) for process in found], {way: bulks[way].moved() for way in bulks}
        sizes = {way: end[way][0] - begin[way][0] for way in bulks}
        used = [(b - a) / sum(sizes.values()) * 1e9 for a, b in zip(before, after, strict=True)]
        rates = {f"{way} Mbit/s": sizes[way] * 8 / (end[way][1] - begin[way][1]) / 1e6 for way in bulks}
        return {**quantiles(times), "most ms": times[-1], **rates, **dict(zip(CPU, used, strict=False))}

    return measure


def quantiles(times):
    """`times`: in order."""
    return {"p50 ms": statistics.median(times), "p99 ms": times[len(times) * 99 // 100]}


def cold(found, load, args):
    return {"a second": args.idle / load.opened(args.idle, 16)}


def fair(found, load, args):
    load.start("down", 8)
    time.sleep(WARM)
    times = sorted(load.other().exchanges(args.secs))
    return quantiles(times)


def connections(found, load, args):
    load.connections(0.5, 16)  # warm
    before = [cpu(process) for process in found]
    count, elapsed = load.connections(args.secs, 16)
    used = [(cpu(process) - b) / count * 1000 for process, b in zip(found, before, strict=True)]
    return {"a second": count / elapsed, **dict(zip(CPU_EACH, used, strict=False))}


def idle(found, load, args):
    load.hold(10)  # the first connections have extra costs
    before = [resident(process) for process in found]
    load.hold(args.idle)
    time.sleep(2)
    used = [(resident(process) - b) / args.idle for process, b in zip(found, before, strict=True)]
    return dict(zip(KB_EACH, used, strict=False))


def beside(way, share):
    """A download before there are connections of that kind, and beside them."""

    def measure(found, load, args):
        bulk, rates, sizes = load.other(), [], []
        bulk.start("down", 1)
        for count in (0, int(args.idle * share)):
            getattr(load, way)(count)
            time.sleep(WARM)
            begin = bulk.moved()
            time.sleep(args.secs)
            end = bulk.moved()
            rates.append((end[0] - begin[0]) / (end[1] - begin[1]))
            sizes.append([resident(process) for process in found])
        used = [(after - before) / count for before, after in zip(*sizes, strict=True)]
        return {"of its speed": rates[1] / rates[0], **dict(zip(KB_EACH, used, strict=False))}

    return measure


CPU = ("client s/GB", "server s/GB")
CPU_EACH = ("client ms CPU", "server ms CPU")
KB_EACH = ("client KB", "server KB")
MEASURES = {
    "cold": cold,
    "fair": fair,
    "connections": connections,
    "idle": idle,
    "busy": beside("hold", 1),
    "stalled": beside("stall", 0.2),
}


def measure_of(test):
    """The function of a test's name; None if there is no such test."""
    if found := re.fullmatch(r"chat(\d*)((?:\+(?:down|up)\d+)+)", test):
        ways = re.findall(r"(down|up)(\d+)", found[2])
        return chat_beside(int(found[1] or 50), [(way, int(count)) for way, count in ways])
    if not (found := re.fullmatch(r"(down|up|chat)(\d*)", test)):
        return MEASURES.get(test)
    kind, count = found.groups()
    return chat(int(count or 50)) if kind == "chat" else bulk(kind, int(count or 1))


def run(contender, test, args):
    """The result of one measurement: {metric: value}."""
    with ExitStack() as stack:
        proxy = pair(stack, contender, Place(ports=(args.port, args.port + 1)))
        found = [proxy.client, proxy.server] if proxy else []
        load = Load(stack, start, proxy and proxy.port)
        return measure_of(test)(found, load, args)


def short(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(results, contenders):
    """The table's lines, from {(test, contender): [{metric: value} of each round]}."""
    yield f"{'':26}" + "".join(f"{who:>24}" for who in contenders)
    for test in dict.fromkeys(test for test, _ in results):
        rounds = {who: results.get((test, who), []) for who in contenders}
        for metric in dict.fromkeys(name for each in rounds.values() for one in each for name in one):
            cells = []
            for who in contenders:
                values = [one[metric] for one in rounds[who] if metric in one]
                middle, ends = (
                    statistics.median(values or [0]),
                    (min(values, default=0), max(values, default=0)),
                )
                cells.append(f"{short(middle)} ({short(ends[0])}..{short(ends[1])})" if values else "-")
            yield f"{test + ': ' + metric:26}" + "".join(f"{cell:>24}" for cell in cells)


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--secs", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--contenders", default="lane-tls,trojan,lane,hysteria2,tuic", help=", ".join(CONTENDERS)
    )
    parser.add_argument("--tests", default=TESTS)
    parser.add_argument("--idle", type=int, default=500, help="connections")
    parser.add_argument("--port", type=int, default=20801, help="first of two that are free")
    parser.add_argument("--json", metavar="FILE", help="for all results; written anew after each round")
    args = parser.parse_args()
    tests = args.tests.split(",")
    if unknown := [test for test in tests if measure_of(test) is None]:
        known = ("downN", "upN", "chatN", "chatN+downN+upN", *MEASURES)
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    os.environ |= {"LANE_MAX_SESSIONS": "20000", "LANE_MAX_SESSIONS_PER_PEER": "20000"}  # of lane, for idle
    contenders = available(args.contenders.split(","))
    results = {(test, who): [] for test in tests for who in contenders}
    for number in range(1, args.rounds + 1):
        for (test, who), found in results.items():
            if who == "direct" and test in ("idle", "busy", "stalled"):
                continue
            found.append(run(who, test, args))
            said = ", ".join(f"{name} {short(value)}" for name, value in found[-1].items())
            print(f"{number}/{args.rounds} {test}, {who}: {said}", flush=True)
        if args.json:
            rows = [
                {"test": test, "contender": who, "rounds": found} for (test, who), found in results.items()
            ]
            with open(args.json, "w") as out:
                json.dump({**about(), "results": rows}, out)
                out.write("\n")
    print(f"\n{python()}\n" + "\n".join(table(results, contenders)))


if __name__ == "__main__":
    sys.exit(main())
