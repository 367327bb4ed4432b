"""The arithmetic of bench/auto.py: its figures and their limits, without a network.

It is separate from the program, so that it can be tested without an emulated link.
"""

import statistics
from dataclasses import dataclass

NEAR = 0.01
"""Seconds by which two times of the same moment may differ, since they are rounded to milliseconds."""


def rate(trace, begin, end):
    """Mbit/s from `begin` to `end` (seconds). The time after the end of a download counts as no data."""
    step = trace["step"]
    first, last = round(begin / step), round(end / step)
    return sum(trace["series"][first:last]) * 8 / ((last - first) * step) / 1e6


def longest_gap(trace, begin, end):
    """The most seconds without a byte in that time. A download that ended early has a gap up to `end`."""
    gaps = trace["gaps"]
    if trace["secs"] < end:
        silent = bool(gaps) and sum(gaps[-1]) >= trace["secs"] - NEAR
        since = gaps[-1][0] if silent else trace["secs"]
        gaps = [*gaps, [since, end - since]]
    return max([0, *(min(at + size, end) - max(at, begin) for at, size in gaps)])


def silence(trace, moment, end):
    """Seconds from `moment` to the next byte; None if there was none up to `end`."""
    for at, size in trace["gaps"]:
        if at <= moment < at + size:
            over = at + size
            return over - moment if over < min(end, trace["secs"]) - NEAR else None
    return 0 if moment < trace["secs"] else None


def recovered(trace, moment, wanted, hold=2):
    """Seconds from `moment` until the average rate was `wanted` Mbit/s over `hold` seconds."""
    at = moment
    while at + hold <= trace["secs"] + NEAR:
        if rate(trace, at, at + hold) >= wanted:
            return at - moment
        at += trace["step"]
    return None


def moves(changes, begin, end):
    """The number of changes [time, from, to, reason] in that time; None if it is unknown."""
    return None if changes is None else sum(begin <= at < end for at, *_ in changes)


def carried_by(lanes, moment):
    """The lane in use at a moment, from [since, lane]."""
    return next((lane for since, lane in reversed(lanes or []) if since <= moment), None)


def chosen_after(lanes, moment, wanted):
    """Seconds from a moment until a lane was chosen; None if it was not."""
    if carried_by(lanes, moment) == wanted:
        return 0
    return next((since - moment for since, lane in lanes or [] if since > moment and lane == wanted), None)


def story(reports, began):
    """The reports of `lane why` with times from `began`: [since, lane], and changes [time, from, to, why].

    Every report repeats the latest changes. Some may be older than `began`.
    """
    if not reports:
        return None, None
    lanes, changes = [], {}
    for report in reports:
        if not lanes or lanes[-1][1] != report["choice"]:
            lanes.append([round(report["time"] - began, 2), report["choice"]])
        for change in report.get("changes", ()):
            changes[change["time"]] = change
    known = [
        [round(at - began, 2), change["from"], change["to"], change.get("reason")]
        for at, change in sorted(changes.items())
        if change["from"]
    ]
    return lanes, known


def most_in_a_second(samples):
    """The largest growth of a counter within a second, from sorted pairs [time, value]."""
    most, first = 0, 0
    for now, value in samples:
        while now - samples[first][0] > 1:
            first += 1
        most = max(most, value - samples[first][1])
    return most


# The limits


@dataclass(frozen=True)
class Need:
    """A figure of auto, or its ratio to the best of others, and its limit."""

    metric: str
    limit: float
    most: bool = True
    """Whether the limit is the most, or the least."""
    beside: tuple = ()
    worst: bool = False
    """Judge the worst round instead of the median, for faults that must never happen."""

    def __str__(self):
        ratio = f" / {' or '.join(self.beside)}" if self.beside else ""
        return f"{self.metric}{ratio} {'<=' if self.most else '>='} {self.limit:g}{' (worst)' * self.worst}"

    def value(self, records):
        """From the rounds of each transport, {name: [figures]}."""
        own = values(records, "auto", self.metric)
        if self.worst:
            return max(own) if self.most else min(own)
        if not self.beside:
            return statistics.median(own)
        best = max(statistics.median(values(records, name, self.metric)) for name in self.beside)
        return statistics.median(own) / best

    def judge(self, records):
        """(value, "ok" or "NOT" or "unknown").

        A figure of None means that an expected event never happened, which is bad. A missing figure was not
        measured.
        """
        try:
            value = self.value(records)
        except Never:
            return None, "NOT"
        except (LookupError, ValueError, ZeroDivisionError):
            return None, "unknown"
        good = value <= self.limit if self.most else value >= self.limit
        return round(value, 3), "ok" if good else "NOT"


class Never(Exception):
    """An expected event did not happen."""


def values(records, name, metric):
    found = [figures[metric] for figures in records[name]]
    if None in found:
        raise Never(metric)
    return found
