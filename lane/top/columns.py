"""Tables that fit: columns that matter less go first where the window is narrow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

GAP = 2
"""Spaces between two columns."""


@dataclass(frozen=True)
class Column:
    """A column. `cell(row)`: its text. It goes the sooner, the higher its `rank` is."""

    title: str
    cell: Callable[[dict[str, Any]], str]
    rank: int = 0
    least: int = 0
    """Cells that it has at least. The first column gets what the others leave."""
    right: bool = True
    key: str = ""
    """The key that sorts by it."""


def table(
    columns: Sequence[Column], rows: Sequence[dict[str, Any]], width: int | None, sorted_by: str = ""
) -> list[Text]:
    """The heading and the rows, as lines of at most `width` cells. None: as wide as the texts are."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    widths = [
        max(column.least, cell_len(column.title), *(cell_len(row[at]) for row in cells))
        if width is None or at
        else column.least
        for at, column in enumerate(columns)
    ]
    shown = [*range(len(columns))]
    while width is not None and len(shown) > 1 and _sum(widths, shown) > width:
        shown.remove(max(shown, key=lambda at: columns[at].rank))
    if width is not None:
        widths[0] += width - _sum(widths, shown)
    lines = [Text(style="bold")]
    for at in shown:
        title = _fit(columns[at].title, widths[at], right=columns[at].right)
        _gap(lines[0], at)
        lines[0].append(title, "reverse" if columns[at].key and columns[at].key == sorted_by else None)
    for row in cells:
        line = Text()
        for at in shown:
            _gap(line, at)
            line.append(_fit(row[at], widths[at], right=columns[at].right))
        lines.append(line)
    for line in lines:
        line.rstrip()
    return lines


def cut(text: str, width: int) -> str:
    """`text` in at most `width` cells."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 2).rstrip() + ".." if width > 2 else set_cell_size(text, max(0, width))


def _fit(text: str, width: int, *, right: bool) -> str:
    text = cut(text, width)
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding


def _sum(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[at] for at in shown) + GAP * (len(shown) - 1)


def _gap(line: Text, at: int) -> None:
    line.append(" " * GAP if at else "")
