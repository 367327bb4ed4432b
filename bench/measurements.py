"""Measurements of one contender over one link: bench/networks.py and bench/story.py repeat them.

Each takes a lab (bench/labs.py), the name of a contender, and the arguments of bench/networks.py, which says
what the metrics mean. It returns a dict of samples by metric. Its "error" has the error, if any.
"""

import math
import statistics
import time

import labs
from labs import end, finish, mbps, mbps_after
from verdicts import longest_gap

CPU = ("client s/GB", "server s/GB")
"""The metrics of CPU time."""
SETTLE = 2
"""Seconds in which a bulk transfer finds its rate."""


def down(lab, contender, args):
    proxy = lab.contend(contender)
    before = lab.cpu()
    result = finish(lab.load("c", "down", "--secs", args.secs, proxy=proxy), args.secs + 60)
    used = [
        (after - start) / max(result["bytes"], 1) * 1e9
        for start, after in zip(before, lab.cpu(), strict=True)
    ]
    cpu = {name: [seconds] for name, seconds in zip(CPU, used, strict=False)}
    rate = {"Mbit/s": [mbps(result, args.secs)], "per_second": result["per_second"]}
    return {**dict.fromkeys(CPU, ()), **rate, **cpu, "error": result["error"]}


def up(lab, contender, args):
    result = finish(lab.load("c", "up", "--secs", args.secs, proxy=lab.contend(contender)), args.secs + 90)
    return {"Mbit/s": [mbps(result, args.secs)], "error": result["error"]}


def both(lab, contender, args):
    proxy = lab.contend(contender)
    loads = {way: lab.load("c", way, "--secs", args.secs, proxy=proxy) for way in ("down", "up")}
    results = {way: finish(load, args.secs + 90) for way, load in loads.items()}
    errors = [result["error"] for result in results.values() if result["error"]]
    rates = {way: [mbps(result, args.secs)] for way, result in results.items()}
    return {**rates, "error": errors[0] if errors else None}


def share(lab, contender, args, count):
    proxy = lab.contend(contender)
    result = finish(
        lab.load("c", "share", "--count", count, "--secs", args.secs, proxy=proxy), args.secs + 60
    )
    sizes, errors = result["sizes"], result["errors"]
    total = max(sum(sizes), 1)
    return {
        "Mbit/s": [total * 8 / args.secs / 1e6],
        "least": [min(sizes) * count / total],
        "most": [max(sizes) * count / total],
        "error": f"{len(errors)} errors: {errors[0]}" if errors else None,
    }


def reordered(lab, contender, args):
    result = down(lab, contender, args)
    return {**result, "of the ceiling": [rate / lab.link.ceiling for rate in result["Mbit/s"]]}


def hole(lab, contender, args):
    """From the middle on, packets of more than 1,300 bytes are lost: the longest pause after that."""
    proxy = lab.contend(contender)
    load = lab.load("c", "down", "--secs", args.secs, "--series", 0.25, proxy=proxy)
    labs.line_with(load, "began")
    time.sleep(args.secs / 2)
    lab.set("--maxlen", "1300")
    result = finish(load, args.secs + 60)
    rate = result["series"][-8:]
    return {
        "pause s": [longest_gap(result, args.secs / 2, args.secs)],
        "then Mbit/s": [sum(rate) / len(rate) / 0.25 * 8 / 1e6],
        "error": result["error"],
    }


def exchanges(lab, proxy, count, secs):
    return finish(lab.load("c", "exchanges", "--count", count, "--secs", secs, proxy=proxy), secs + 120)


def latency(lab, contender, args, beside=None):
    """`beside` is a bulk transfer that runs during the measurement."""
    proxy = lab.contend(contender)
    exchanges(lab, proxy, 1, 1)  # not counted: some proxies connect to their server only now
    bulk = lab.load("c", beside, "--on", "--secs", args.secs, proxy=proxy) if beside else None
    time.sleep(SETTLE if beside else 0)
    done = exchanges(lab, proxy, math.ceil(args.exchanges / args.rounds), args.cap)
    errors = done["errors"]
    samples = {"whole": done["whole"], "after": done["after_connect"]}
    if bulk:
        result = end(bulk)
        samples["bulk Mbit/s"] = [mbps(result)]
        errors += [f"bulk: {result['error']}"] if result["error"] else []
    return {**samples, "error": f"{len(errors)} errors: {errors[0]}" if errors else None}


def latency_beside_down(lab, contender, args):
    return latency(lab, contender, args, "down")


def latency_beside_up(lab, contender, args):
    return latency(lab, contender, args, "up")


def at_once(lab, contender, args):
    """Exchanges that begin together, after some one by one, as in an application that is in use."""
    proxy = lab.contend(contender)
    exchanges(lab, proxy, 100, 20)
    done = finish(lab.load("c", "crowd", "--count", 50, proxy=proxy), 60)
    errors = done["errors"]
    samples = {"whole": done["whole"], "after": done["after_connect"]}
    return {**samples, "error": f"{len(errors)} errors: {errors[0]}" if errors else None}


def fairness(lab, contender, args, other):
    secs = args.fairness_secs
    proxies = lab.contend(contender), lab.contend(other, 1)
    both = [lab.load("c", "down", "--secs", secs, proxy=proxy) for proxy in proxies]
    results = [finish(load, secs + 60) for load in both]
    shares = [mbps_after(result, int(secs / 3), secs) for result in results]
    errors = [result["error"] for result in results if result["error"]]
    per_second = [result["per_second"] for result in results]
    return {"its": shares[:1], "other": shares[1:], "per_second": per_second, "error": (errors or [None])[0]}


def fairness_alike(lab, contender, args):
    return fairness(lab, contender, args, contender)


def fairness_direct(lab, contender, args):
    return fairness(lab, contender, args, "direct")


def queue(lab, contender, args):
    """The link's own round trips, by datagrams without the proxy, and exchanges through the proxy."""
    labs.line_with(lab.load("s", "echo"), "ready")
    proxy = lab.contend(contender)
    before = finish(lab.load("c", "pings", "--secs", 2), 30)
    bulk = lab.load("c", "down", "--on", proxy=proxy)
    time.sleep(SETTLE)
    pings = lab.load("c", "pings", "--secs", args.secs)
    done = exchanges(lab, proxy, 10000, args.secs)
    beside, result = finish(pings, args.secs + 60), end(bulk)
    base = statistics.median(before["rtt"])
    return {
        "rtt": beside["rtt"],
        "ratio": [rtt / base for rtt in beside["rtt"]],
        "after": done["after_connect"],
        "bulk Mbit/s": [mbps(result)],
        "error": result["error"] or (done["errors"] or [None])[0],
    }
