"""Does a series still grow? What bench/soak.py decides by.

A process under load is noisy: it breathes with its load, and its memory grows while it warms up. What leaks
goes on growing. So only the last half of a run counts, and there two things must come together:

  1. It rises by at least `least`: the slope of Theil and Sen (the median of the slopes between all pairs of
     points; a few wild values don't move it) through the medians of equal parts of the half, over the half.
     The parts are as long as the load's own cycle, so that its breathing falls out. `least` is an amount, a
     part of the level, and three times what the medians wander about that line (as the median of that):
     about twice the error that the line has for it.
  2. It goes on: the median of each third of the half is above the one before, by a good part of what an even
     rise would bring. A warm-up that comes to its end, or one step up to a new level, which a peak of the
     load can bring, leaves two of the thirds alike. Steps that go on do not.

P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63 (1968).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise

PARTS = 10
"""Of the last half, at most: cycles of the load, where there are so many."""
FEWEST = 4
"""Points that say something."""
OF_LEAST, OF_RISE = 0.25, 0.15
"""What each third must be above the one before; an even rise gives a third."""

WANDER = 3.0
"""Times the scatter of the points about their line, which the least growth has to be more."""

Samples = Sequence[tuple[float, float]]
"""Times in seconds, rising, and values."""


class TooFew(Exception):
    """Nothing can be said: there are no samples."""


@dataclass(frozen=True)
class Trend:
    level: float
    """The median of the half."""
    rise: float
    """What it grew by in the half, in its own unit; may be negative."""
    least: float
    """What had to be reached to count."""
    grows: bool


def trend(samples: Samples, absolute: float, relative: float = 0.0, parts: int = PARTS) -> Trend:
    """Of a whole run. Growth that counts is `absolute`, and `relative` of the level, and more if it is noisy.

    Raises TooFew.
    """
    half = last_half(samples)
    cut = pieces(half, parts)
    if len(cut) < FEWEST:
        raise TooFew(f"{len(cut)} points")
    level = statistics.median(value for _, value in half)
    points = [(when, statistics.median(values)) for when, values in cut]
    pace = slope(points)
    rise = pace * (half[-1][0] - half[0][0])
    least = absolute + relative * level + WANDER * scatter(points, pace)
    thirds = [statistics.median_low(chain.from_iterable(v for _, v in third)) for third in split(cut, 3)]
    enough = max(OF_LEAST * least, OF_RISE * rise)
    goes_on = all(after - before >= enough for before, after in pairwise(thirds))
    return Trend(level, rise, least, rise >= least and goes_on)


def last_half(samples: Samples) -> Samples:
    """What came after the middle of the time."""
    if not samples:
        raise TooFew("no samples")
    middle = (samples[0][0] + samples[-1][0]) / 2
    return [sample for sample in samples if sample[0] >= middle]


def pieces(samples: Samples, parts: int) -> list[tuple[float, list[float]]]:
    """The middle and the values of each of equally long parts of the time; without those that are empty."""
    if len(samples) < 2 or samples[0][0] == samples[-1][0]:
        raise TooFew(f"{len(samples)} samples")
    begin, length = samples[0][0], (samples[-1][0] - samples[0][0]) / parts
    found: list[list[float]] = [[] for _ in range(parts)]
    for when, value in samples:
        found[min(int((when - begin) / length), parts - 1)].append(value)
    return [(begin + (number + 0.5) * length, values) for number, values in enumerate(found) if values]


def scatter(points: Samples, pace: float) -> float:
    """The median distance of points from a line with that slope through their middle."""
    rests = [y - pace * x for x, y in points]
    middle = statistics.median(rests)
    return statistics.median(abs(rest - middle) for rest in rests)


def slope(points: Samples) -> float:
    """Of Theil and Sen, units a second."""
    return statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))


def split(parts, count):
    """In order, as equal as can be."""
    edges = [round(number * len(parts) / count) for number in range(count + 1)]
    return [parts[begin:end] for begin, end in pairwise(edges)]
