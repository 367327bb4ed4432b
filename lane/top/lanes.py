"""The lanes of a view: for each its numbers, and sparklines of the last minutes as wide as there is room."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from lane.shown import amount, dicts, milliseconds, number, percent, rate, text
from lane.top.columns import cut
from lane.top.past import BARS, Past, draw

MOST = 8
"""The most lanes."""
NARROW = 60
"""The width below which only goodput is shown."""
LEAST_LOSS = 0.01
"""The loss that the highest bar stands for, at least: less is hardly felt."""
LONGEST_NAME = 10
STATE_WIDTH = 7
STYLES = {"carries": "green", "silent": "red"}


@dataclass(frozen=True)
class Measure:
    """A number of a lane. `share`: how much of the room for sparklines it gets."""

    field: str
    title: str
    width: int
    show: Callable[[Any], str]
    share: int
    least: float = 0.0
    """What the highest bar stands for, at least."""


MEASURES = (
    Measure("goodput", "goodput", 13, rate, 2),
    Measure("rtt", "round trip", 10, milliseconds, 1),
    Measure("loss", "loss", 7, percent, 1, LEAST_LOSS),
)


def draw_lanes(view: dict[str, Any], past: Past, width: int, bars: str = BARS) -> list[Text]:
    """A heading and a line for each lane, of about `width` cells."""
    lanes = dicts(view.get("lanes"))[:MOST]
    if not lanes:
        return []
    now, states = number(view.get("now")) or 0.0, view.get("role") != "server"
    measures = MEASURES if width >= NARROW else MEASURES[:1]
    name_width = max(4, *(min(cell_len(text(lane.get("name"))), LONGEST_NAME) for lane in lanes))
    counts = width >= NARROW
    used = name_width + (STATE_WIDTH + 2 if states else 0) + (len(" sessions") if counts else 0)
    room = width - used - sum(2 + one.width for one in measures)
    shares = sum(one.share for one in measures)
    rooms = {one.field: max(0, room * one.share // shares) for one in measures}
    found = {
        one.field: [past.bars(str(lane.get("name")), one.field, rooms[one.field], now) for lane in lanes]
        for one in measures
    }
    tops = {
        one.field: max((value for row in found[one.field] for value in row if value), default=0.0)
        for one in measures
    }
    heading = Text(f"{'lane':{name_width}}", "bold")
    heading.append(f"  {'state':{STATE_WIDTH}}" if states else "")
    for one in measures:
        heading.append(f" {one.title:>{one.width}} {'':{rooms[one.field]}}")
    heading.append(" sessions" if counts else "")
    lines = [heading]
    for at, lane in enumerate(lanes):
        state = text(lane.get("state"))
        style = STYLES.get(state, "")
        line = Text(_left(text(lane.get("name")), name_width), style)
        if states:
            line.append(f"  {_left(state, STATE_WIDTH)}")
        lines.append(line)
        if state == "silent" and lane.get("why"):
            line.append(f" {text(lane['why'])}")
            continue
        line = Text().append_text(line)
        lines[-1] = line
        for one in measures:
            line.append(f" {one.show(lane.get(one.field)):>{one.width}} ")
            top = max(tops[one.field], one.least)
            line.append(draw(found[one.field][at], top, bars), "cyan")
        if counts:
            line.append(f" {amount(lane.get('sessions')):>8}")
    return lines


def _left(text: str, width: int) -> str:
    text = cut(text, width)
    return text + " " * (width - cell_len(text))
