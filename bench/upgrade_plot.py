"""The plot of bench/upgrade.py: one download over several upgrades of the server.

It is separate from the measurement, so that saved figures can be drawn again with only matplotlib.
"""

from timeline import COLORS

SMOOTH = 3
"""Points that are averaged, so that the lines are readable."""

LASTS = "an upgrade: from its start until the old process has ended"
SERVES = "the new process serves"


def draw(rows, file):
    try:
        import matplotlib as mpl
    except ImportError:
        print("no matplotlib: no plot (pip install matplotlib, then --replot)")
        return
    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lane", "font.size": 9})
    from matplotlib import pyplot

    found = [(name.partition("-")[2], row) for name, row in rows.items() if name.startswith("download-")]
    figure, axes = pyplot.subplots(
        len(found), 1, figsize=(8, 1.9 * len(found)), squeeze=False, layout="constrained"
    )
    figure.patch.set_facecolor("white")
    for (transport, row), each in zip(found, axes.flat, strict=True):
        trace = row["trace"]
        step, series = trace["step"], trace["series"]
        count = len(series) - SMOOTH + 1
        x = [(first + SMOOTH / 2) * step for first in range(count)]
        y = [sum(series[first : first + SMOOTH]) * 8 / (SMOOTH * step) / 1e6 for first in range(count)]
        for one in row["upgrades"]:
            each.axvspan(one["began"], one["ended"], color="#e5e7eb", linewidth=0, label=LASTS)
            each.axvline(one["taken"], color="#6b7280", linewidth=0.8, label=SERVES)
        each.plot(x, y, color=COLORS[transport], linewidth=1.2)
        gap = row["figures"]["gap"]
        text = f"longest time without a byte: {gap:.2f} s" if gap else "never 0.1 s without a byte"
        each.set_title(f"{transport}: {text}", loc="left", fontsize=9)
        each.set(ylabel="Mbit/s", ylim=(0, max(y) * 1.1), xlim=(0, len(series) * step))
        each.spines[["top", "right"]].set_visible(False)
    axes.flat[-1].set_xlabel("seconds")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), frameon=False, ncols=2, loc="outside lower left", fontsize=8)
    figure.savefig(file, metadata={"Date": None})
