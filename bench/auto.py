"""lane --transport auto on changing links: is it as good as the better one of --transport quic and tls?

    python bench/auto.py [--rounds 3] [--only fixed-L1,loss-step] [--json FILE] [--plot FILE [--replot]]

It needs root and netlab: see bench/labs.py. Each measurement has its own link, client and server. In rows
that compare, the transports take turns within each round. A figure is the median of the rounds, or the
worst if it says so. It is "ok" or "NOT" within its limit, or "unknown" if it was not measured. All bytes
are compared with a pattern. A difference ends the program with exit status 3. The status is 1 if there is a
"NOT". Lanes and moves come from `lane why`. In the file of --json, rows that are not measured now are kept.
bench/scenarios.py and bench/everyday.py have the details of each row:

    fixed      L1 to L4, TCP with cubic and with bbr: 20 s, without the first 5
    loss-step  no loss, 10 % from 15 s, none from 40 s: phases without their first 4 s
    udp-block  on QUIC, then UDP is blocked for 20 s
    tcp-block  on TLS, then TCP is blocked for 20 s
    police     on QUIC, then UDP gets 2 Mbit/s
    blackout   nothing passes for 20 s
    address    the client's address changes; -quic: of a session on QUIC
    stop       the client is stopped for --stop-secs
    kill       the server is killed, and is back after 5 s
    flap       losses of 0 and 4 % take turns every 5 s, for 2 minutes
    many       200 sessions on QUIC, then UDP is blocked for 20 s
    real       curl, messages and ssh: nothing passes for 5 s, then UDP is blocked
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import everyday
import labs
import scenarios
import timeline
from labs import LINKS, Failed
from verdicts import Need

ALL = ("auto", "quic", "tls")
BETTER = ("quic", "tls")


@dataclass
class Row:
    name: str
    measure: callable
    """Of a lab and a transport; gives a record."""
    needs: list
    transports: tuple = ("auto",)
    link: str = "L1"
    cc: str = "cubic"
    options: tuple = ()
    records: dict = field(default_factory=dict)
    """Of each transport, one a round."""
    about: dict = field(default_factory=dict)

    def verdicts(self):
        figures = {who: [record["figures"] for record in kept] for who, kept in self.records.items()}
        for need in [Need("broke", 0, worst=True), *self.needs]:
            value, verdict = need.judge(figures)
            yield {"need": str(need), "value": value, "verdict": verdict}


def at_least(limit, metric="Mbit/s"):
    return Need(metric, limit, most=False, beside=BETTER)


def fixed(link, cc):
    needs = [at_least(0.95)]
    if link == "L1":
        needs.append(Need("CPU s/GB", 1.3, beside=("tls",)))
    return Row(f"fixed-{link}-{cc}", scenarios.fixed, needs, ALL, link, cc)


def rows_for(stop_secs):
    s, back = scenarios, Need("new session", 2)
    phases = [at_least(0.9, f"Mbit/s {phase}") for phase in ("before", "10 % loss", "after")]
    gap, change = Need("gap", 1.5), Need("gap", 2)
    police = [Need("80 % after", 4), Need("on TLS after", 4)]
    killed = [Need("ended after", 3), Need("new session", 3)]
    crowd = [Need("lost", 0, worst=True), Need("SYNs", 20, worst=True)]
    out = 5 + everyday.GRACE
    return [
        *(fixed(link, cc) for link, cc in product(sorted(LINKS), ("cubic", "bbr"))),
        Row("loss-step", s.loss_step, [*phases, Need("moves", 2)], ALL),
        Row("udp-block", partial(s.block, kind="udp"), [gap], link="L2"),
        Row("tcp-block", partial(s.block, kind="tcp"), [gap]),
        Row("police", s.police, police, link="L2"),
        Row("blackout", s.blackout, [Need("first byte after", 2)]),
        Row("address", s.address, [change]),
        Row("address-quic", s.address, [change], link="L2"),
        Row("stop", partial(s.stop, paused=stop_secs), [Need("over after", 2), back]),
        Row("kill", s.kill, killed),
        Row("flap", s.flap, [at_least(0.9), Need("moves", 6)], ALL),
        Row("many", s.many, crowd, options=("--block-tcp", "1")),
        Row("real", everyday.real, [Need("longest", out), Need("ssh gap", out)], link="L2"),
    ]


def measure(row, who, transport, number):
    """One round of a row; a line about it."""
    with labs.lab(LINKS[row.link], *row.options, cc=row.cc, seed=number) as lab:
        # lane would ask for bbr by itself.
        lab.lane_options = ["--tcp-congestion", "system"] if row.cc == "cubic" else []
        try:
            record = row.measure(lab, transport)
        except Failed as failed:
            error = str(failed).splitlines()[-1]
            record = {"figures": {"broke": 1}, "error": error, "note": ""}
        record["late_mean_us"] = lab.late()
    row.records.setdefault(who, []).append(record)
    said = [f"{name} {short(value)}" for name, value in record["figures"].items() if name != "broke" or value]
    said += [record["note"]] if record["note"] else []
    said += [f"ERROR: {record['error']}"] if record["error"] else []
    if record["late_mean_us"] > labs.LATE:
        said.append(f"WARNING: the link was {record['late_mean_us']:.0f} us late: the machine is too busy")
    return ", ".join(said)


def short(value):
    return "never" if value is None else f"{value:.3g}"


def table(rows):
    """A line for each need, with the verdict, and the number of bad ones."""
    found = [(row.name, verdict) for row in rows for verdict in row.verdicts()]
    text = []
    for name, verdict in found:
        value = "-" if verdict["value"] is None else short(verdict["value"])
        text.append(f"{name:16}{verdict['need']:44}{value:>8}  {verdict['verdict']}")
    return "\n".join(text), sum(verdict["verdict"] == "NOT" for _, verdict in found)


def save(file, rows):
    """Write the measured rows. Other rows in the file are kept."""
    kept = load(file)["rows"] if Path(file).exists() else {}
    for row in rows:
        if row.records:
            about = {**row.about, "link": str(LINKS[row.link]), "tcp": row.cc, "options": row.options}
            kept[row.name] = {**about, "verdicts": list(row.verdicts()), "rounds": row.records}
    links = {name: str(link) for name, link in LINKS.items()}
    Path(file).write_text(json.dumps({"links": links, "rows": kept}) + "\n")


def load(file):
    return json.loads(Path(file).read_text())


def about():
    """The data about the run, as in all benchmarks, without folders of this machine."""
    made = labs.about()
    return {**made, "command": re.sub(r"(?<=[ =])/\S*/", "", made["command"])}


def draw(result, file):
    if "loss-step" not in result["rows"]:
        raise SystemExit("there is no loss-step to draw")
    try:
        timeline.draw(result["rows"]["loss-step"]["rounds"], file)
    except ImportError:
        print("no matplotlib: no plot (pip install matplotlib, then --replot)")


def chosen(rows, only):
    """The rows in `only`, by whole name or by the part before a hyphen: fixed-L1, fixed."""
    names = only.split(",") if only else [row.name for row in rows]
    known = {name: [row for row in rows if f"{row.name}-".startswith(f"{name}-")] for name in names}
    if unknown := [name for name, found in known.items() if not found]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if any(row in found for found in known.values())]


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="rows")
    parser.add_argument("--auto", default="auto", metavar="NAME", help="a transport in the place of auto")
    parser.add_argument("--stop-secs", type=int, default=120)
    parser.add_argument("--json", metavar="FILE", help="for all results; written anew after each round")
    parser.add_argument("--plot", metavar="FILE", help="an SVG of loss-step")
    parser.add_argument("--replot", action="store_true", help="only draw what the file of --json has")
    args = parser.parse_args()
    if args.replot and not (args.json and args.plot):
        parser.error("--replot needs --json and --plot")
    if args.replot:
        return draw(load(args.json), args.plot)
    rows = chosen(rows_for(args.stop_secs), args.only)
    labs.prepare([])
    for number, row in product(range(1, args.rounds + 1), rows):
        row.about = about()
        for who in row.transports:
            transport = args.auto if who == "auto" else who
            said = measure(row, who, transport, number)
            print(f"{number}/{args.rounds} {row.name}, {transport}: {said}", flush=True)
        if args.json:
            save(args.json, rows)
    text, bad = table(rows)
    print(f"\n{text}")
    if args.plot:
        draw({"rows": {row.name: {"rounds": row.records} for row in rows}}, args.plot)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
