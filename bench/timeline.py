"""The plot of bench/auto.py's loss-step: the rate of each transport, and the lane that auto used.

It is separate from the measurement, so that saved figures can be drawn again with only matplotlib.
"""

import statistics
from itertools import pairwise

COLORS = {"auto": "#c2410c", "quic": "#2563eb", "tls": "#15803d"}
NAMES = {"auto": "--transport auto", "quic": "quic", "tls": "tls"}
SMOOTH = 2
"""Points that are averaged, of 0.5 s each, so that the lines are readable."""


def draw(rounds, file):
    """Draw the round with the median number of bytes of auto. An average would blur auto's moves."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lane", "font.size": 9})
    from matplotlib import pyplot

    number = middle([record["trace"]["bytes"] for record in rounds["auto"]])
    traces = {who: records[number]["trace"] for who, records in rounds.items()}
    secs = max(len(trace["series"]) * trace["step"] for trace in traces.values())
    sizes = {"height_ratios": [12, 1], "hspace": 0.04}
    figure, (axes, strip) = pyplot.subplots(
        2, 1, figsize=(8, 3.8), sharex=True, gridspec_kw=sizes, layout="constrained"
    )
    figure.patch.set_facecolor("white")
    top = max(max(rates(trace)[1]) for trace in traces.values()) * 1.18
    for begin, end, percent in losses(traces["auto"]["events"], secs):
        axes.axvspan(begin, end, color="#e5e7eb", linewidth=0)
        strip.axvspan(begin, end, color="#e5e7eb", linewidth=0)
        text = f"{percent} % of packets lost"
        axes.text((begin + end) / 2, top * 0.97, text, ha="center", va="top", color="#4b5563")
    for who in ("quic", "tls", "auto"):  # auto is drawn above the others
        width = 2.2 if who == "auto" else 1.2
        axes.plot(*rates(traces[who]), color=COLORS[who], linewidth=width, label=NAMES[who])
    axes.set(ylabel="download, Mbit/s", ylim=(0, top), xlim=(0, secs))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    for begin, end, lane in segments(traces["auto"]["lanes"] or [[0, None]], secs):
        strip.barh(0, end - begin, left=begin, height=1, color=COLORS.get(lane, "#9ca3af"), linewidth=0)
        if end - begin > secs / 20:
            strip.text((begin + end) / 2, 0, lane or "unknown", ha="center", va="center", color="white")
    strip.set(yticks=[], xlabel="seconds", ylim=(-0.5, 0.5))
    strip.set_ylabel("auto's\nlane", rotation=0, ha="right", va="center")
    for each in (axes, strip):
        each.spines[["top", "right"]].set_visible(False)
    axes.tick_params(bottom=False)
    figure.savefig(file, metadata={"Date": None})


def middle(values):
    """The index of the median."""
    return values.index(statistics.median_low(values))


def rates(trace):
    """Seconds and Mbit/s. Each point is an average, and x is the middle of its time."""
    step, series = trace["step"], trace["series"]
    count = len(series) - SMOOTH + 1
    x = [(first + SMOOTH / 2) * step for first in range(count)]
    return x, [sum(series[first : first + SMOOTH]) * 8 / (SMOOTH * step) / 1e6 for first in range(count)]


def losses(events, secs):
    """[begin, end, percent] of the times with losses, from the changes of the link."""
    found = []
    changes = [(at, float(what.split()[1].rstrip("%"))) for at, what in events if what.startswith("--loss")]
    for (begin, percent), (end, _) in pairwise([*changes, (secs, 0)]):
        if percent:
            found.append([begin, end, f"{percent:g}"])
    return found


def segments(lanes, secs):
    """[begin, end, lane] from [since, lane]. A lane that was chosen before the start counts from there."""
    ends = [since for since, _ in lanes[1:]] + [secs]
    spans = [(max(0, begin), min(end, secs), lane) for (begin, lane), end in zip(lanes, ends, strict=True)]
    return [list(span) for span in spans if span[1] > span[0]]
