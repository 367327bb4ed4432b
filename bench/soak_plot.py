"""The plot of bench/soak.py: each series of each process over the run.

It is separate from the measurement, so that saved figures can be drawn again with only matplotlib.
"""

import statistics

COLORS = {"server": "#15803d", "client": "#c2410c", "mover": "#2563eb"}
NAMES = {"server": "server", "client": "client", "mover": "client that is made to move"}
GROWS = "#b91c1c"
ACROSS = 4
POINTS = 40
"""Points of a line. Each is the median of the samples around it, in a band from the least to the greatest."""
FIRST = ("rss", "heap", "objects", "blocks", "descriptors", "greenlets", "threads", "sessions")
BYTES = ("rss", "heap", "budget")


def draw(result, file):
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lane", "font.size": 8})
    from matplotlib import pyplot

    samples, growing = result["samples"], {one["name"] for one in result["trends"] if one["grows"]}
    names = panels(samples)
    rows = -(-len(names) // ACROSS)
    figure, axes = pyplot.subplots(
        rows, ACROSS, figsize=(11, 1.35 * rows + 0.5), sharex=True, squeeze=False, layout="constrained"
    )
    figure.patch.set_facecolor("white")
    for each in axes.flat[len(names) :]:
        each.set_visible(False)
    for name, each in zip(names, axes.flat, strict=False):
        each.axvspan(result["secs"] / 120, result["secs"] / 60, color="#f3f4f6", linewidth=0)
        for lane, series in samples.items():
            if name in series:
                times, low, middle, high = points(series[name], POINTS)
                scale = 1e6 if name in BYTES else 1
                minutes = [when / 60 for when in times]
                low, middle, high = ([value / scale for value in line] for line in (low, middle, high))
                each.fill_between(minutes, low, high, color=COLORS[lane], alpha=0.15, linewidth=0)
                each.plot(minutes, middle, color=COLORS[lane], linewidth=1.2, label=NAMES[lane])
        unit = ", MB" if name in BYTES else ""
        mark, color = (" GROWS", GROWS) if name in growing else ("", "black")
        each.set_title(f"{name}{unit}{mark}", fontsize=8, color=color)
        each.set(ylim=(0, None), xlim=(0, result["secs"] / 60))
        each.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("minutes; the grey half is the one in which nothing may grow", fontsize=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=3, loc="outside upper left")
    figure.savefig(file, metadata={"Date": None})


def panels(samples):
    """The names of all series, the best known first."""
    found = dict.fromkeys(name for series in samples.values() for name in series)
    return [name for name in FIRST if name in found] + [name for name in found if name not in FIRST]


def points(samples, count):
    """Times, and the least, the median and the greatest sample around each."""
    size = max(1, -(-len(samples) // count))
    groups = [samples[begin : begin + size] for begin in range(0, len(samples), size)]
    columns = [[value for _, value in group] for group in groups]
    times = [statistics.mean(when for when, _ in group) for group in groups]
    return times, *([how(values) for values in columns] for how in (min, statistics.median, max))
