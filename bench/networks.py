"""lane beside other proxies on emulated links: throughput, latency, fairness, queues.

    python bench/networks.py [--rounds 5] [--secs 10] [--only L1,L2] [--contenders lane,hysteria2,tuic,brutal]
                             [--tests down,up,share,latency,reorder,burst,fairness,queue] [--json FILE]

It needs root and netlab: see bench/labs.py. `lane` is lane over QUIC, `lane-tls` is lane over TLS.
bench/proxies.py has the others. Each measurement has its own link, client and server. The contenders take
turns within each round, so that a busy machine affects all equally. Compare them, and not figures of two
runs. A figure is the median of the rounds, with the least and the greatest value. A percentile is that of
the exchanges of all rounds, with those of single rounds. "!" marks figures with errors in a round; the
round's line shows the error.

    down, up   Mbit/s as an application sees it, from before it connects; up: until all data is confirmed.
               down also: CPU seconds a GB of the client and of the server
    both       a download and an upload that begin together (only on request)
    share      20 and 100 downloads that begin together: the sum, and the least and the greatest of them, as
               fractions of an equal share
    latency    512 bytes up and 4 KB down on a new connection: `whole` is from before it connects, `after`
               from the proxy's reply on (some proxies reply before they have asked their server).
               latency-up is the same beside an upload (only on request)
    at-once    50 exchanges that begin together, after a few one by one (only on request)
    reorder    download with 5 ms of jitter that reorders packets, as a fraction of the link's ceiling
    hole       download; from its middle on, packets of more than 1,300 bytes are lost (only on request)
    burst      download, and latency on L2, with losses of about 8 packets in a row
    fairness   two downloads on L1, each through its own pair, or one of them over TCP without a proxy:
               Mbit/s of both in the last two thirds of --fairness-secs
    short-queue  the same with a queue of 64 KB (only on request)
    queue      on L1 with a queue of 2 MB, beside a download: round trips of datagrams on the link, their
               ratio to the median before, and exchanges through the proxy
"""

import argparse
import json
import shlex
import statistics
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import labs
from labs import LINKS, Failed
from measurements import (
    CPU,
    at_once,
    both,
    down,
    fairness_alike,
    fairness_direct,
    hole,
    latency,
    latency_beside_down,
    latency_beside_up,
    queue,
    reordered,
    share,
    up,
)
from proxies import CONTENDERS as KNOWN

CONTENDERS = "lane,hysteria2,tuic,brutal"
TESTS = "down,up,share,latency,reorder,burst,fairness,queue"


@dataclass(frozen=True)
class Row:
    test: str
    link: str
    title: str
    measure: callable
    metrics: dict
    """The percentiles that are shown, by metric; 50 is the median."""
    options: tuple = ()
    cc: str = "cubic"
    records: dict = field(default_factory=dict, compare=False)
    """The measurements by contender: a list with one item per round."""


BURST = ("--burst", "8")
SHORT_QUEUE = ("--queue", "64kb")
REORDER = ("--jitter", "5ms", "--reorder", "1")
LATENCY = {"whole": (50, 99), "after": (50, 99)}
BESIDE = {**LATENCY, "bulk Mbit/s": (50,)}
QUEUE = {"rtt": (50, 99), "ratio": (50, 99), "after": (50, 99), "bulk Mbit/s": (50,)}
SHARES = {"its": (50,), "other": (50,)}
RATE = {"Mbit/s": (50,)}
PARTS = {"least": (50,), "most": (50,)}
COST = dict.fromkeys(CPU, (50,))
ROWS = [
    *(Row("down", link, "down", down, RATE | COST) for link in LINKS),
    *(Row("up", link, "up", up, RATE) for link in LINKS),
    *(
        Row("share", link, f"{count} downloads", partial(share, count=count), RATE | PARTS)
        for link in LINKS
        for count in (20, 100)
    ),
    Row("latency", "L1", "alone", latency, LATENCY),
    *(Row("both", link, "both ways", both, {"down": (50,), "up": (50,)}) for link in LINKS),
    Row("at-once", "L1", "50 at once", at_once, LATENCY),
    Row("latency", "L2", "alone", latency, LATENCY),
    Row("latency", "L2", "beside down", latency_beside_down, BESIDE),
    Row("latency", "L1", "beside down", latency_beside_down, BESIDE),
    Row("latency-up", "L2", "beside up", latency_beside_up, BESIDE),
    Row("latency-up", "L1", "beside up", latency_beside_up, BESIDE),
    *(Row("reorder", link, "reordered", reordered, {"of the ceiling": (50,)}, REORDER) for link in LINKS),
    Row("hole", "L1", "packets over 1,300 bytes vanish", hole, {"pause s": (50,), "then Mbit/s": (50,)}),
    *(Row("burst", link, "bursts", down, RATE, BURST) for link in LINKS if LINKS[link].loss),
    Row("burst", "L2", "bursts, alone", latency, LATENCY, BURST),
    Row("fairness", "L1", "two alike", fairness_alike, SHARES),
    Row("fairness", "L1", "beside cubic", fairness_direct, SHARES),
    Row("fairness", "L1", "beside bbr", fairness_direct, SHARES, cc="bbr"),
    Row("short-queue", "L1", "two alike, 64 KB queue", fairness_alike, SHARES, SHORT_QUEUE),
    Row("short-queue", "L1", "beside cubic, 64 KB queue", fairness_direct, SHARES, SHORT_QUEUE),
    Row("short-queue", "L1", "beside reno, 64 KB queue", fairness_direct, SHARES, SHORT_QUEUE, cc="reno"),
    Row("queue", "L1", "2 MB queue", queue, QUEUE, ("--queue", "2mb")),
]
UNITS = {"whole": " ms", "after": " ms", "rtt": " ms", "its": " Mbit/s", "other": " Mbit/s"}
UNITS |= {"down": " Mbit/s", "up": " Mbit/s", "ratio": " (good: < 1.5)"}


def percentile(values, percent):
    if percent == 50:
        return statistics.median(values)
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def figure(records, metric, percent):
    """{value, least, most} over the rounds, and whether a round had errors."""
    rounds = [record[metric] for record in records if record.get(metric)]
    if not rounds:
        return None
    each = [percentile(samples, percent) for samples in rounds]
    value = percentile([sample for samples in rounds for sample in samples], percent)
    cell = {"value": round(value, 3), "least": round(min(each), 3), "most": round(max(each), 3)}
    return {**cell, "errors": any(record["error"] for record in records)}


def lines(rows, contenders):
    """The table: {row, contender: figure} of each metric and percentile."""
    for row in rows:
        for metric, percents in row.metrics.items():
            for percent in percents:
                name = f"p{percent} " if len(percents) > 1 else ""
                title = f"{row.link} {row.title}: {name}{metric}{UNITS.get(metric, '')}"
                yield {
                    "row": title,
                    **{who: figure(row.records.get(who, ()), metric, percent) for who in contenders},
                }


def short(number):
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def table(rows, contenders):
    found = list(lines(rows, contenders))
    first = max(len(line["row"]) for line in found) + 2
    text = [" " * first + "".join(f"{who:>24}" for who in contenders)]
    for line in found:
        cells = [
            f"{short(cell['value'])} ({short(cell['least'])}..{short(cell['most'])}){'!' * cell['errors']}"
            if cell
            else "-"
            for cell in (line[who] for who in contenders)
        ]
        text.append(f"{line['row']:{first}}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(text)


def save(file, rows, contenders):
    result = {
        **labs.about(),
        "links": {name: str(link) for name, link in LINKS.items()},
        "table": list(lines(rows, contenders)),
        "raw": [
            {"test": row.test, "link": row.link, "row": row.title, "options": row.options, "tcp": row.cc}
            | {"contender": who, "rounds": records}
            for row in rows
            for who, records in row.records.items()
        ],
    }
    with open(file, "w") as out:
        json.dump(result, out)
        out.write("\n")


def measure(row, contender, args, seed):
    with labs.lab(LINKS[row.link], *row.options, cc=row.cc, seed=seed) as lab:
        lab.lane_options = shlex.split(args.lane_options)
        try:
            record = row.measure(lab, contender, args)
        except Failed as failed:
            record = {**dict.fromkeys(row.metrics, ()), "error": str(failed).splitlines()[-1]}
        record["late_mean_us"] = lab.late()
    row.records.setdefault(contender, []).append(record)
    said = []
    for metric, percents in row.metrics.items():
        values = [f"{short(percentile(record[metric], p))}" for p in percents if record[metric]]
        said.append(f"{metric} {'/'.join(values) or '-'}")
    if record["error"]:
        said.append(f"ERROR: {record['error']}")
    if record["late_mean_us"] > labs.LATE:
        said.append(f"WARNING: the link was {record['late_mean_us']:.0f} us late: the machine is too busy")
    return ", ".join(said)


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=float, default=10, help="of a bulk")
    parser.add_argument("--only", default=",".join(LINKS), help="links")
    parser.add_argument("--contenders", default=CONTENDERS, help=f"of {', '.join(KNOWN)}")
    parser.add_argument("--tests", default=TESTS)
    parser.add_argument("--exchanges", type=int, default=1000, help="in all rounds, for each latency")
    parser.add_argument("--cap", type=float, default=120, help="most seconds for the exchanges of a round")
    parser.add_argument("--fairness-secs", type=float, default=30)
    parser.add_argument("--lane-options", default="", help="for lane's client and server, in one argument")
    parser.add_argument("--json", metavar="FILE", help="for all results; written anew after each round")
    args = parser.parse_args()
    tests, links = args.tests.split(","), args.only.split(",")
    for given, known in ((tests, {row.test for row in ROWS}), (links, set(LINKS))):
        if unknown := set(given) - known:
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    rows = [row for row in ROWS if row.test in tests and row.link in links]
    if not rows:
        parser.error("no such test on these links")
    contenders = labs.prepare(args.contenders.split(","))
    for number in range(1, args.rounds + 1):
        for row, contender in product(rows, contenders):
            said = measure(row, contender, args, number)
            print(f"{number}/{args.rounds} {row.link} {row.title}, {contender}: {said}", flush=True)
        if args.json:
            save(args.json, rows, contenders)
    print(f"\n{table(rows, contenders)}")


if __name__ == "__main__":
    main()
