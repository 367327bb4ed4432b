"""The pictures of bench/story.py, as SVG that stands in an HTML page and takes the page's colours.

They are separate from the measurement, so that saved figures can be drawn again with only matplotlib.
"""

import io
import re
from itertools import pairwise

import buffers
import timeline
from story_text import LANES, NAMES, SHORT, held, short

INK, MUTED, BAND = "#1c1917", "#6b7280", "#e5e7eb"
COLORS = {
    "lane": timeline.COLORS["quic"],
    "lane-tls": timeline.COLORS["tls"],
    "lane-tls-bbr": "#0e7490",
    "v2ray": "#9333ea",
    "v2ray-mux": "#c026a3",
    "stop-and-wait": timeline.COLORS["auto"],
    "direct": MUTED,
}
PALETTE = {
    "ink": (INK, "#e7e5e4"),
    "muted": (MUTED, "#a1a1aa"),
    "band": (BAND, "#3f3f46"),
    "against": ("#b91c1c", "#f87171"),
    "quic": (COLORS["lane"], "#60a5fa"),
    "tls": (COLORS["lane-tls"], "#4ade80"),
    "tls-bbr": (COLORS["lane-tls-bbr"], "#22d3ee"),
    "v2ray": (COLORS["v2ray"], "#c084fc"),
    "v2ray-mux": (COLORS["v2ray-mux"], "#f472b6"),
    "window": (COLORS["stop-and-wait"], "#fb923c"),
    "l1": (buffers.COLORS["L1"], "#7cc4f5"),
    "l4": (buffers.COLORS["L4"], "#f59e7f"),
}
"""The page's colors, by the name of their variable: on a light and on a dark page."""
WIDTH = 5
"""Inches. It is as wide as the page of a phone, so that letters stay readable."""


def svg(name, figures, label):
    """The picture of a chapter: an <svg> without anything that a page must fetch."""
    import matplotlib as mpl

    mpl.use("svg")
    own = {
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.5, **own}):
        from matplotlib import pyplot

        figure = PICTURES[name](pyplot, figures)
        figure.patch.set_visible(False)
        for axes in figure.axes:
            axes.patch.set_visible(False)
            axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return inline(out.getvalue(), name, label)


def inline(text, name, label):
    """What a page needs of matplotlib's SVG: no prologue, names of its own, and the page's colors."""
    text = text[text.index("<svg") :]
    text = re.sub(r"(?s)<metadata>.*?</metadata>|<!--.*?-->", "", text)
    width, height = re.search(r'viewBox="0 0 (\S+) (\S+)"', text).groups()
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
    text = re.sub(r"<svg[^>]*>", head, text, count=1)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text).replace("xlink:href", "href")
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for variable, (light, _) in PALETTE.items():
        text = text.replace(light, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", text).strip()


def window(pyplot, figures):
    figure, axes = pyplot.subplots(figsize=(WIDTH, 3.4), layout="constrained")
    rtts = sorted({point["rtt"] for point in figures["points"]})
    ends = rtts[0] / 1.3, rtts[-1] * 1.3
    computed = [held(8192, rtt, 1e9) for rtt in ends]
    axes.plot(ends, computed, color=COLORS["stop-and-wait"], linewidth=0.7)
    axes.text(ends[0] * 1.6, computed[0] / 1.35, "8 KB / round trip", color=MUTED, va="bottom")
    axes.axhline(figures["ceiling"], color=MUTED, linewidth=0.7, linestyle=(0, (4, 3)))
    axes.text(ends[0] * 1.03, figures["ceiling"] * 1.1, "what the line can carry", color=MUTED, va="bottom")
    for who in ("direct", "stop-and-wait"):
        found = {point["rtt"]: point["mbps"] for point in figures["points"] if point["who"] == who}
        if not found:
            continue
        axes.plot(*zip(*found.items(), strict=True), "o-", color=COLORS[who], linewidth=1.8, markersize=5)
        below = {"xytext": (0, -14), "textcoords": "offset points", "ha": "center", "color": COLORS[who]}
        for rtt, rate in found.items():
            axes.annotate(short(rate), (rtt, rate), fontsize=8.5, **below)
        name = f"{NAMES[who]}".replace(" with", "\nwith")
        axes.text(ends[1] * 1.05, found[max(found)], name, color=COLORS[who], va="center")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=(computed[-1] / 2, 80))
    axes.set(xlabel="round trip, ms", ylabel="Mbit/s")
    axes.set_xticks(rtts, [str(rtt) for rtt in rtts])
    axes.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
    axes.minorticks_off()
    return figure


def curve(pyplot, figures):
    figure, axes = pyplot.subplots(figsize=(WIDTH, 3.9), layout="constrained")
    buffers.plot(figure, axes, figures["points"])
    return figure


def clean(pyplot, figures):
    lines = figures["lines"]
    figure, grid = pyplot.subplots(
        len(lines), 2, figsize=(WIDTH, 1.6 * len(lines) + 0.3), layout="constrained", squeeze=False
    )
    figure.get_layout_engine().set(hspace=0.08)
    for line, (left, right) in zip(lines, grid, strict=True):
        found = line["contenders"]
        names = [SHORT[who] for who in found]
        colors = [COLORS[who] for who in found]
        bars(left, names, [one["mbps"] for one in found.values()], colors)
        bars(right, [""] * len(names), [one["client"] + one["server"] for one in found.values()], colors)
        left.set_title(f"{line['link']['rate']} Mbit/s: goodput", fontsize=9.5, loc="left")
        right.set_title("CPU s/GB, both ends", fontsize=9.5, loc="left")
    return figure


def bars(axes, names, values, colors):
    places = range(len(values))
    axes.barh(places, values, color=colors, height=0.7)
    for place, value in zip(places, values, strict=True):
        axes.text(value, place, f"\u2009{short(value)}", va="center")
    axes.set_yticks(places, names)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.set(xticks=[], xlim=(0, max([*values, 0.1]) * 1.3))
    axes.spines["bottom"].set_visible(False)


def loss(pyplot, figures):
    found = figures["contenders"]
    sizes = {"height_ratios": [6, len(found)]}
    figure, (axes, rows) = pyplot.subplots(
        2, 1, figsize=(WIDTH, 4.6), layout="constrained", gridspec_kw=sizes
    )
    for place, (who, one) in enumerate(found.items()):
        axes.plot(*timeline.rates(one), color=COLORS[who], linewidth=1.8, label=SHORT[who])
        times = one["exchanges"]
        rows.plot(times, [place] * len(times), "|", color=COLORS[who], markersize=13, alpha=0.6)
        if not times:
            rows.text(
                0.02,
                place,
                "none was answered",
                color=MUTED,
                va="center",
                transform=rows.get_yaxis_transform(),
            )
    axes.set(ylabel="Mbit/s", xlabel="seconds", ylim=(0, None), xlim=(0, figures["secs"]))
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    rows.set(xscale="log", xlabel="an exchange beside the download, ms", ylim=(len(found) - 0.5, -0.5))
    rows.set_yticks(range(len(found)), [SHORT[who] for who in found])
    least, most = rows.get_xlim()
    ticks = [tick for tick in (30, 100, 300, 1000, 3000, 10000, 30000) if least < tick < most]
    rows.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    rows.minorticks_off()
    rows.tick_params(left=False)
    rows.spines["left"].set_visible(False)
    return figure


def switch(pyplot, figures):
    found, secs = figures["contenders"], figures["steps"][-1]
    trace = found["auto"]["trace"]
    figure, axes = pyplot.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    top = max(max(timeline.rates(one["trace"])[1]) for one in found.values()) * 1.25
    for begin, end, percent in timeline.losses(trace["events"], secs):
        axes.axvspan(begin, end, color=BAND, linewidth=0)
        axes.text((begin + end) / 2, top * 0.985, f"{percent} % lost", ha="center", va="top", color=MUTED)
    for who in ("quic", "tls"):
        if who in found:
            label = f"{LANES[who]} alone"
            own = {"color": timeline.COLORS[who], "linewidth": 0.9, "linestyle": (0, (2, 1.5))}
            axes.plot(*timeline.rates(found[who]["trace"]), label=label, **own)
    labelled = set()
    for begin, end, lane in timeline.segments(trace["lanes"] or [[0, None]], secs):
        label = None if lane in labelled else f"lane, over {LANES.get(lane, lane)}"
        labelled.add(lane)
        points = between(*timeline.rates(trace), begin, end)
        axes.plot(*points, color=timeline.COLORS.get(lane, MUTED), linewidth=2.6, label=label)
    for at, _, new, _ in trace["changes"] or []:
        if 0 <= at <= secs:
            color = timeline.COLORS.get(new, MUTED)
            axes.axvline(at, color=color, linewidth=0.9)
            side, gap = ("left", 4) if at < 0.85 * secs else ("right", -4)
            beside = {"xytext": (gap, 0), "textcoords": "offset points", "ha": side, "color": color}
            axes.annotate(f"to {LANES.get(new, new)}", (at, top * 0.87), **beside)
    axes.set(ylabel="Mbit/s", xlabel="seconds", ylim=(0, top), xlim=(0, secs))
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def between(x, y, begin, end):
    """The part of a line from `begin` to `end`, with its points there."""
    inside = [(a, b) for a, b in zip(x, y, strict=True) if begin < a < end]
    ends = []
    for moment in (begin, end):
        for (a, low), (b, high) in pairwise(zip(x, y, strict=True)):
            if a <= moment <= b:
                ends.append((moment, low + (high - low) * (moment - a) / (b - a)))
                break
    points = sorted({*inside, *ends})
    return [a for a, _ in points], [b for _, b in points]


PICTURES = {each.__name__: each for each in (window, curve, clean, loss, switch)}
