"""The last minutes of each lane, put together from the histories of one view after another."""

from collections import deque
from math import ceil
from typing import Any

from lane.shown import dicts, number

SECONDS = 900
"""Samples of a lane that are kept."""
MOST_LANES = 32
SPAN = 120
"""Seconds that a sparkline shows at least, if there are as many."""
BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-:=+*#"
"""For terminals that can't show the others."""
FIELDS = "goodput", "loss", "rtt"


class Past:
    """What is known of the last minutes."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[tuple[float, dict[str, float | None]]]] = {}

    def take(self, view: dict[str, Any], *, fresh: bool) -> None:
        """Add the history of a view. `fresh`: it is the first of a connection, and has all that there is."""
        history = view.get("history")
        if fresh:
            self._lanes = {}
        if not isinstance(history, dict) or not isinstance(history.get("lanes"), dict):
            return
        times = history.get("times")
        times = [number(one) for one in times[-SECONDS:]] if isinstance(times, list) else []
        for name, lane in history["lanes"].items():
            if not isinstance(lane, dict) or (name not in self._lanes and len(self._lanes) >= MOST_LANES):
                continue
            kept = self._lanes.setdefault(name, deque(maxlen=SECONDS))
            columns = {
                field: lane[field][-SECONDS:] if isinstance(lane.get(field), list) else [] for field in FIELDS
            }
            for at, second in enumerate(times):
                if second is not None and (not kept or second > kept[-1][0]):
                    row = {field: number(_at(column, at)) for field, column in columns.items()}
                    kept.append((second, row))

    def bars(self, name: str, field: str, width: int, now: float) -> list[float | None]:
        """`width` values of a lane, the newest last: each stands for some seconds. None: unknown."""
        if width <= 0:
            return []
        step = max(1, ceil(SPAN / width))
        last = int(now) // step
        sums: dict[int, list[float]] = {}
        for second, row in reversed(self._lanes.get(name, ())):
            bar = int(second) // step
            if bar <= last - width:
                break
            if (value := row[field]) is not None:
                sums.setdefault(bar, []).append(value)
        mean = field == "goodput"  # a moment of loss, or a late answer, shall be seen
        return [
            (sum(found) / len(found) if mean else max(found)) if (found := sums.get(bar)) else None
            for bar in range(last - width + 1, last + 1)
        ]


def draw(values: list[float | None], most: float, bars: str = BARS) -> str:
    """Values as a sparkline, in which `most` is the highest bar. Unknown ones are spaces."""
    top = len(bars) - 1
    drawn = [
        " " if value is None else bars[min(top, max(0, ceil(value / most * top) if most > 0 else 0))]
        for value in values
    ]
    return "".join(drawn)


def names(view: dict[str, Any]) -> list[str]:
    """The lanes of a view, in its order."""
    return [one["name"] for one in dicts(view.get("lanes")) if isinstance(one.get("name"), str)]


def _at(column: list[Any], at: int) -> Any:
    return column[at] if at < len(column) else None
