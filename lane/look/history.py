"""The record of the last minutes: one sample a second of each lane, in memory of a fixed size.

The workers of a server share the memory, which is mapped before they fork, so each of them tells for all, and
what one had recorded before it died counts. Each second has its place, and each worker writes its own row.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from math import isnan, nan
from statistics import median
from typing import Any, NamedTuple

from lane.fair import maybe_yield

SECONDS = 900
"""Samples that are kept."""
_DIGITS = 5
"""Digits after the point of what is told, which keep it short."""


class Sample(NamedTuple):
    """One lane in one second. NaN: unknown."""

    goodput: float = nan
    """Bytes a second."""
    loss: float = nan
    """0 to 1."""
    sent: float = 1.0
    """The weight of `loss` beside that of other workers: bytes that were sent."""
    rtt: float = nan
    """Seconds."""
    carries: float = nan
    """1 if new sessions use it, else 0."""


_NOTHING = Sample()
_WIDTH = len(_NOTHING)


class History:
    """The record of `lanes`, written by `writers` processes."""

    def __init__(self, lanes: Sequence[str], writers: int = 1) -> None:
        self.lanes = tuple(lanes)
        self._writers = range(writers)
        self._size = 1 + len(self.lanes) * _WIDTH  # the second, and then the samples
        self._cells = memoryview(mmap.mmap(-1, 8 * self._size * SECONDS * writers)).cast("d")

    def record(self, writer: int, second: int, samples: Mapping[str, Sample]) -> None:
        """Write the samples of a second (since the epoch) in the row of a process."""
        at = self._at(writer, second)
        self._cells[at] = 0.0  # nobody shall take what is half written
        for number, name in enumerate(self.lanes):
            for offset, value in enumerate(samples.get(name, _NOTHING)):
                self._cells[at + 1 + number * _WIDTH + offset] = value
        self._cells[at] = second

    def at(self, second: int) -> dict[str, Sample] | None:
        """The samples of a second, of all processes together. None if there are none."""
        rows = [row for writer in self._writers if (row := self._row(writer, second))]
        if not rows:
            return None
        return {
            name: _together([Sample(*row[number * _WIDTH :][:_WIDTH]) for row in rows])
            for number, name in enumerate(self.lanes)
        }

    def tell(self, since: float, now: float) -> dict[str, Any]:
        """What is newer than `since`, as the view has it. Other greenlets may run meanwhile."""
        found = [*self._after(since, now)]
        return {
            "step": 1.0,
            "times": [second for second, _ in found],
            "lanes": {
                name: {
                    "goodput": [known(samples[name].goodput, 0) for _, samples in found],
                    "loss": [known(samples[name].loss) for _, samples in found],
                    "rtt": [known(samples[name].rtt) for _, samples in found],
                    "carries": [known(samples[name].carries, 0) for _, samples in found],
                }
                for name in self.lanes
            },
        }

    def _after(self, since: float, now: float) -> Iterator[tuple[int, dict[str, Sample]]]:
        last = int(now)
        first = last - SECONDS + 1
        if since >= first:
            first = int(since) + 1 if since < last else last + 1
        for second in range(first, last + 1):
            maybe_yield()
            if (samples := self.at(second)) is not None:
                yield second, samples

    def _at(self, writer: int, second: int) -> int:
        return (writer * SECONDS + second % SECONDS) * self._size

    def _row(self, writer: int, second: int) -> list[float]:
        at = self._at(writer, second)
        row = self._cells[at : at + self._size]
        return [*row[1:]] if row[0] == second else []


def known(value: float, digits: int = _DIGITS) -> float | int | None:
    """A value of a sample as JSON has it."""
    if isnan(value):
        return None
    return round(value, digits) if digits else round(value)


def _together(samples: Sequence[Sample]) -> Sample:
    """The samples of several processes as one."""
    if len(samples) == 1:
        return samples[0]
    goodputs, rtts, carries = (
        [value for value in values if not isnan(value)]
        for values in zip(*((one.goodput, one.rtt, one.carries) for one in samples), strict=True)
    )
    lossy = [one for one in samples if not isnan(one.loss) and one.sent > 0]
    sent = sum(one.sent for one in lossy)
    return Sample(
        sum(goodputs) if goodputs else nan,
        sum(one.loss * one.sent for one in lossy) / sent if sent else nan,
        sent,
        median(rtts) if rtts else nan,
        max(carries, default=nan),
    )
