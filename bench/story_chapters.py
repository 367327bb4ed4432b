"""What the chapters of bench/story.py measure: each returns its figures, as JSON takes them.

Each measurement has its own link, client and server, as in the other benchmarks. What could not be measured
stays in the figures as an error, and the report shows it. bench/story_words.py makes sentences of them.
"""

import statistics
import time
from dataclasses import asdict, dataclass
from itertools import product
from types import SimpleNamespace

import buffers
import labs
import proxies
import scenarios
from labs import LINKS, Failed, Link, finish, mbps, mbps_after
from measurements import CPU, SETTLE, down
from processes import line_with

FAST = Link(500, 20, 0, 471)
"""A line that is fast enough to show what a transport costs."""
BUFFER = 8 << 20
"""Bytes of each direction of a connection, the same for all in chapters 3 and 4."""
CUBIC = ("--tcp-congestion", "system")
"""lane would ask the kernel for BBR by itself."""


PATIENCE = 10
"""Seconds after which an exchange is given up."""


@dataclass(frozen=True)
class Plan:
    """How long everything takes. Times are in seconds, and `skip` ones do not count."""

    rtts: tuple = (10, 20, 50, 100, 200)
    secs: int = 6
    skip: int = 2
    sizes: str = buffers.SIZES
    links: tuple = ("L1", "L4")
    rounds: int = 3
    bulk: int = 6
    lossy: int = 16
    exchanges: int = 100
    steps: tuple = (10, 30, 48)
    """Losses begin, losses end, the download ends."""
    beside: tuple = ("quic", "tls")


WHOLE = Plan()
QUICK = Plan((50, 200), 3, 1, "8K,128K,1M,16M", ("L4",), 1, 3, 7, 30, (5, 14, 30), ())


class Chapter:
    """The measurements of a chapter: what they say while they run, and what went wrong."""

    def __init__(self, name):
        self.name, self.begin = name, time.monotonic()
        self.late, self.left_out, self.errors = [], [], []

    def say(self, text):
        print(f"{time.monotonic() - self.begin:6.0f} s  {text}", flush=True)

    def measure(self, what, link, work, *, seed=1, cc="cubic", options=(), buffer=0):
        """The result of `work` in a new lab; if it failed, only its "error"."""
        try:
            with labs.lab(link, seed=seed, cc=cc) as lab:
                lab.lane_options, lab.buffer = list(options), buffer
                found = work(lab)
                late = lab.late()
        except Failed as failed:
            found, late = {"error": str(failed).splitlines()[-1]}, 0
        self.late.append(late)
        if found.get("error"):
            self.failed(what, found["error"])
        return found

    def failed(self, what, error):
        self.errors.append(f"{what}: {error}")
        self.say(f"{what}: ERROR: {error}")

    def chosen(self, contenders):
        """Those that are installed."""
        there = set(proxies.available(contenders))
        self.left_out = [who for who in contenders if who not in there]
        return [who for who in contenders if who in there]


def window(chapter, plan):
    """The proxy with 8 KB, and TCP without a proxy, over the round trip time."""
    points = []
    for rtt, who in product(plan.rtts, ("stop-and-wait", "direct")):
        link = Link(30, rtt, 0, LINKS["L1"].ceiling)

        def work(lab, who=who):
            return finish(lab.load("c", "down", "--secs", plan.secs, proxy=lab.contend(who)), plan.secs + 60)

        what = f"{rtt} ms, {who}"
        found = chapter.measure(what, link, work)
        if not found.get("error"):
            rate = round(mbps_after(found, plan.skip, plan.secs), 3)
            points.append({"rtt": rtt, "who": who, "mbps": rate})
            chapter.say(f"{what}: {rate:.2f} Mbit/s")
    return {"rate": link.rate, "ceiling": link.ceiling, "points": points}


def curve(chapter, plan):
    """The sweep of bench/buffers.py."""
    args = SimpleNamespace(secs=plan.secs, skip=plan.skip, rounds=1, lane_options="")
    points = []
    for link, size in product(plan.links, buffers.sizes_of(plan.sizes)):
        what = f"{link}, {buffers.name(size)}"
        try:
            point = buffers.sweep(args, [size], [link])["points"][0]
        except Failed as failed:
            chapter.failed(what, str(failed).splitlines()[-1])
            continue
        (measured,) = point.pop("rounds")
        chapter.late.append(measured["late_mean_us"])
        if measured["error"]:
            chapter.failed(what, measured["error"])
        else:
            points.append(point)
    return {"links": {name: asdict(LINKS[name]) for name in plan.links}, "points": points}


def clean(chapter, plan):
    """QUIC, TLS and v2ray on lines that lose nothing: goodput and CPU."""
    lines = []
    contenders = chapter.chosen(("lane", "lane-tls", "v2ray"))
    for link in (LINKS["L1"], FAST):
        found = {who: [] for who in contenders}
        for number, who in product(range(1, plan.rounds + 1), contenders):

            def work(lab, who=who):
                return down(lab, who, SimpleNamespace(secs=plan.bulk))

            what = f"{link.rate} Mbit/s, {who}"
            record = chapter.measure(what, link, work, seed=number, options=CUBIC, buffer=BUFFER)
            if not record.get("error"):
                steady = sum(record["per_second"][1:]) / len(record["per_second"][1:])
                client, server = (record[name][0] for name in CPU)
                found[who].append({"mbps": steady, "client": client, "server": server})
                chapter.say(f"{what}: {steady:.1f} Mbit/s, {client + server:.1f} CPU s/GB")
        lines.append(
            {"link": asdict(link), "contenders": {who: medians(of) for who, of in found.items() if of}}
        )
    return {"buffer": BUFFER, "rounds": plan.rounds, "lines": lines}


def medians(records):
    return {name: round(statistics.median(each[name] for each in records), 3) for name in records[0]}


LOSSY = {"lane": "cubic", "lane-tls": "cubic", "v2ray": "cubic", "v2ray-mux": "cubic", "lane-tls-bbr": "bbr"}
"""The contenders and TCP's congestion control. QUIC brings its own."""


def loss(chapter, plan):
    """A download, and small exchanges beside it, at 10 % loss."""
    found = {}
    there = chapter.chosen([name.removesuffix("-bbr") for name in LOSSY])
    for name, cc in LOSSY.items():
        who = name.removesuffix("-bbr")
        if who not in there:
            continue
        options = CUBIC if cc == "cubic" else ("--tcp-congestion", cc)

        def work(lab, who=who):
            return bulk_and_exchanges(lab, lab.contend(who), plan)

        record = chapter.measure(name, LINKS["L2"], work, cc=cc, options=options, buffer=BUFFER)
        if "series" in record:
            found[name] = record
            chapter.say(f"{name}: {record['mbps']:.2f} Mbit/s, {len(record['exchanges'])} exchanges")
    about = {"link": asdict(LINKS["L2"]), "buffer": BUFFER, "secs": plan.lossy, "patience": PATIENCE}
    return {**about, "contenders": found}


def bulk_and_exchanges(lab, proxy, plan):
    bulk = lab.load("c", "down", "--secs", plan.lossy, "--series", 0.5, proxy=proxy)
    line_with(bulk, "began")
    time.sleep(SETTLE)
    limits = ("--count", plan.exchanges, "--secs", plan.lossy - 2 * SETTLE, "--timeout", PATIENCE)
    done = finish(lab.load("c", "exchanges", *limits, proxy=proxy), 120)
    trace = finish(bulk, plan.lossy + 60)
    return {
        "mbps": round(mbps(trace, plan.lossy), 3),
        "exchanges": done["whole"],
        "failed": len(done["errors"]),
        **{name: trace[name] for name in ("step", "series", "error")},
    }


def switch(chapter, plan):
    """A download while losses begin and end, as in bench/auto.py."""
    found = {}
    for who in ("auto", *plan.beside):

        def work(lab, who=who):
            return scenarios.loss_step(lab, who, *plan.steps)

        record = chapter.measure(who, LINKS["L1"], work, options=CUBIC)
        if "trace" in record:
            record["trace"] = {name: record["trace"][name] for name in TRACE}
            found[who] = {name: record[name] for name in ("figures", "trace")}
            rates = (f"{name} {value:.1f}" for name, value in record["figures"].items() if "Mbit/s" in name)
            chapter.say(f"{who}: {', '.join(rates)}")
    return {"link": asdict(LINKS["L1"]), "steps": plan.steps, "contenders": found}


TRACE = ("step", "series", "bytes", "secs", "events", "lanes", "changes")
CHAPTERS = {each.__name__: each for each in (window, curve, clean, loss, switch)}
