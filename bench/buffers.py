"""The effect of --buffer-size: a download over QUIC for each size, and a plot with the expected rates.

    python bench/buffers.py [--sizes 8K,16K,...,16M] [--only L1,L4] [--secs 6] [--skip 2] [--rounds 1]
                            [--out bench/results]

A buffer smaller than rate * RTT cannot fill a link: the rate is at most buffer / RTT. Client and server
have the same size. The first --skip seconds are not counted. It writes buffers.json, .svg and .png. With
--draw it makes the plot from buffers.json, without measuring. It needs root and netlab (see bench/labs.py),
and matplotlib for the plot.
"""

import argparse
import json
import math
import shlex
import statistics
from pathlib import Path

import labs
from labs import LINKS, finish, mbps_after

SIZES = "8K,16K,32K,64K,128K,256K,512K,1M,2M,4M,8M,16M"
UNITS = {"K": 1 << 10, "M": 1 << 20}
COLORS = {"L1": "#1b6ca8", "L3": "#5a8f29", "L2": "#7b4ba0", "L4": "#c4572a"}


def measure(link, size, args, seed):
    """A download with that size at both ends."""
    with labs.lab(LINKS[link], seed=seed) as lab:
        lab.buffer, lab.lane_options = size, shlex.split(args.lane_options)
        proxy = lab.contend("lane")
        result = finish(lab.load("c", "down", "--secs", args.secs, proxy=proxy), args.secs + 60)
        late = lab.late()
    if result["error"]:
        print(f"ERROR: {result['error']}")
    if late > labs.LATE:
        print(f"WARNING: the link was {late:.0f} us late: the machine is too busy")
    return {"seed": seed, "late_mean_us": late, **result}


def sizes_of(text):
    """Bytes, from SIZES or a text like it."""
    return [int(each[:-1]) * UNITS[each[-1]] for each in text.split(",")]


def sweep(args, sizes, links):
    points = []
    for link in links:
        for size in sizes:
            rounds = [measure(link, size, args, seed + 1) for seed in range(args.rounds)]
            mbps = statistics.median(mbps_after(result, args.skip, args.secs) for result in rounds)
            points.append({"link": link, "size": size, "mbps": round(mbps, 3), "rounds": rounds})
            print(f"{link}, {name(size)}: {mbps:.2f} Mbit/s", flush=True)
    return {**labs.about(), "links": {link: str(LINKS[link]) for link in links}, "points": points}


def name(size):
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} KB"


def draw(result, out):
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lane", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    plot(figure, axes, result["points"])
    figure.savefig(out / "buffers.svg", metadata={"Date": None})
    figure.savefig(out / "buffers.png", dpi=150)


def plot(figure, axes, points):
    """The goodput over the buffer's size, and what is expected. bench/story_plot.py uses it too."""
    sizes = sorted({point["size"] for point in points})
    links = list(dict.fromkeys(point["link"] for point in points))
    for link in links:
        own = [point for point in points if point["link"] == link]
        x, y = [point["size"] for point in own], [point["mbps"] for point in own]
        axes.plot(x, y, "o-", color=COLORS[link], linewidth=1.8, markersize=4)
        text = f"{link}: {LINKS[link].rate} Mbit/s\n{LINKS[link].rtt} ms, {LINKS[link].loss} % loss"
        axes.annotate(text, (sizes[-1] * 1.2, y[-1]), color=COLORS[link], va="center")
        axes.plot(*expected(link, sizes), color=COLORS[link], linewidth=0.7)
    axes.set(xscale="log", yscale="log", xlabel="--buffer-size", ylabel="download, Mbit/s")
    axes.set_xticks(sizes, [name(size) for size in sizes], rotation=45, ha="right")
    bottom, top = axes.get_ylim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if bottom < tick < top]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    figure.draw_without_rendering()  # settles the scales, which the slope of a label depends on
    small = {"textcoords": "offset points", "fontsize": 8, "rotation_mode": "anchor"}
    for link in links:
        x, y = expected(link, sizes)
        above = {**small, "xytext": (0, 4), "color": COLORS[link]}
        axes.annotate(f"ceiling {LINKS[link].ceiling} Mbit/s", (x[-1], y[-1]), ha="right", **above)
        (left, low), (right, high) = axes.transData.transform([(x[0], y[0]), (x[1], y[1])])
        slope = math.degrees(math.atan2(high - low, right - left))
        middle = math.sqrt(x[0] * x[1]), math.sqrt(y[0] * y[1])
        text = f"buffer / {LINKS[link].rtt} ms"
        axes.annotate(text, middle, ha="center", rotation=slope, **{**above, "xytext": (-3, 2)})


def expected(link, sizes):
    """x and y of buffer / RTT, up to what fits on the link."""
    ceiling, rtt = LINKS[link].ceiling, LINKS[link].rtt / 1000
    corner = ceiling * 1e6 / 8 * rtt
    x = [sizes[0], min(corner, sizes[-1]), sizes[-1]]
    return x, [min(size * 8 / rtt / 1e6, ceiling) for size in x]


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--only", default="L1,L4", help="links")
    parser.add_argument("--secs", type=float, default=6)
    parser.add_argument("--skip", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--lane-options", default="", help="more for client and server, in one argument")
    parser.add_argument("--out", type=Path, default=labs.BENCH / "results")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    args = parser.parse_args()
    file = args.out / "buffers.json"
    if not args.draw:
        if args.secs < args.skip + 1:
            parser.error("--secs must be longer than --skip by a second or more")
        labs.prepare(["lane"])
        result = sweep(args, sizes_of(args.sizes), args.only.split(","))
        args.out.mkdir(exist_ok=True, parents=True)
        file.write_text(json.dumps(result) + "\n")
    try:
        draw(json.loads(file.read_text()), args.out)
    except ImportError:
        print(f"no matplotlib: no plot (pip install matplotlib, then --draw). The figures are in {file}")


if __name__ == "__main__":
    main()
