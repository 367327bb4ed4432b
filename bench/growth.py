"""The test for growth of bench/soak.py: does a series still grow?

A process under load is noisy. Its values vary with the load, and its memory grows while it warms up. A leak
never stops growing. So only the last half of a run counts. There two conditions must hold:

  1. The series rises by at least `least` over the half. The rise is the Theil-Sen slope (the median of the
     slopes between all pairs of points, which outliers hardly change) through the medians of equal parts of
     the half. Each part is as long as a cycle of the load, which removes the load's variation. `least` is the
     sum of an amount, a part of the level, and three times the median distance of the medians from the line.
     The last term is about twice the line's error.
  2. The rise continues: the median of each third of the half is above the previous one, by a good part of an
     even rise. After the end of a warm-up, or after one step to a new level at a peak of the load, two of the
     thirds are equal. With repeated steps they are not.

P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63 (1968).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise

PARTS = 10
"""The most parts of the last half. They are cycles of the load if there are so many."""
FEWEST = 4
"""The fewest points for a result."""
OF_LEAST = 0.25
"""The least rise from each third to the next one, as a fraction of `least`."""
OF_RISE = 0.15
"""The same, as a fraction of the whole rise. An even rise gives a third."""

WANDER = 3.0
"""The factor for the scatter of the points about their line, in the least growth."""

Samples = Sequence[tuple[float, float]]
"""Pairs of a time in seconds, rising, and a value."""


class TooFew(Exception):
    """There are too few samples for a result."""


@dataclass(frozen=True)
class Trend:
    level: float
    """The median of the half."""
    rise: float
    """The growth in the half, in the series' unit. It may be negative."""
    least: float
    """The least growth that counts."""
    grows: bool


def trend(samples: Samples, absolute: float, relative: float = 0.0, parts: int = PARTS) -> Trend:
    """The trend of a whole run. Growth counts from `absolute` plus `relative` of the level, plus the noise.

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
    """The samples after the middle of the time."""
    if not samples:
        raise TooFew("no samples")
    middle = (samples[0][0] + samples[-1][0]) / 2
    return [sample for sample in samples if sample[0] >= middle]


def pieces(samples: Samples, parts: int) -> list[tuple[float, list[float]]]:
    """Split the time into equal parts. Return the middle and the values of each part that is not empty."""
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
    """The Theil-Sen slope, units a second."""
    return statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))


def split(parts, count):
    """Split `parts` into `count` consecutive groups of nearly equal size."""
    edges = [round(number * len(parts) / count) for number in range(count + 1)]
    return [parts[begin:end] for begin, end in pairwise(edges)]
