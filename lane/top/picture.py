"""A frame of `lane top`: lines that fit a window of any size. Whatever a view lacks is shown as unknown."""

from typing import Any

from rich.cells import cell_len
from rich.text import Text

from lane.shown import NONE, age, amount, clock, dicts, milliseconds, number, text
from lane.top.choices import ORDERS, TABLES, Choices
from lane.top.columns import Column, cut, table
from lane.top.lanes import draw_lanes
from lane.top.past import BARS, PLAIN_BARS, Past

MOST_MOVES = 3
LEAST, LOW, TALL = 4, 14, 20
"""Heights: below LEAST, there is no line for the keys; below LOW, no moves and no counts; from TALL on, there
are more moves."""
WHOLE = 80
"""The width of lanes where there is no window."""
LABELS = {"d": "down", "u": "up", "a": "age", "t": "name", "s": "sessions"}
ALWAYS = "? help", "q quit"
HELP = """\
d u    sort by what comes down, or goes up
a t    sort by age, or by target
s      sort users and workers by sessions
       the same key again turns the order round
tab    sessions, users, workers of a server
arrows, page keys, home, end: scroll
? q    this help; quit (or Ctrl-C)

The bars are the last two minutes or more, the
newest at the right. Rates are those of the last
second. Of many sessions, the 200 that move most,
or are the newest, are here."""

_BYTES = (
    Column("bit/s down", lambda row: _bits(row.get("down_rate")), 1, 7, key="d"),
    Column("bit/s up", lambda row: _bits(row.get("up_rate")), 2, 7, key="u"),
    Column("bytes down", lambda row: amount(row.get("down")), 6, 6),
    Column("bytes up", lambda row: amount(row.get("up")), 7, 6),
)


def _columns(name: str, view: dict[str, Any]) -> list[Column]:
    now = number(view.get("now"))
    if name == "users":
        return [
            Column("user", lambda row: text(row.get("name")), 0, 12, right=False, key="t"),
            Column("here", lambda row: "yes" if row.get("online") is True else "", 4, 4, right=False),
            Column("sessions", lambda row: amount(row.get("sessions")), 3, 4, key="s"),
            *_BYTES,
            Column("limit", lambda row: _bits(row.get("rate_down")), 8, 5),
            Column("quota", _quota, 9, 5),
        ]
    if name == "workers":
        return [
            Column("process", lambda row: _whole(row.get("pid")), 0, 8, right=False),
            Column("sessions", lambda row: amount(row.get("sessions")), 1, 4, key="s"),
            Column("connections", lambda row: amount(row.get("carriers")), 2, 4),
            Column("age", lambda row: _since(row.get("since"), now), 3, 6, key="a"),
            Column("restarts", lambda row: amount(row.get("restarts")), 4, 4),
        ]
    user = Column("user", lambda row: cut(text(row.get("user")), 16), 4, 4, right=False)
    return [
        Column("target", lambda row: text(row.get("target")), 0, 14, right=False, key="t"),
        *([user] if view.get("role") == "server" else []),
        Column("over", lambda row: cut(text(row.get("transport")), 8), 5, 4, right=False),
        *_BYTES,
        Column("age", lambda row: _span(row.get("age")), 3, 6, key="a"),
    ]


class Picture:
    """Draws views. `plain`: the terminal has no other characters than those of ASCII."""

    def __init__(self, *, plain: bool = False) -> None:
        self._bars = PLAIN_BARS if plain else BARS

    def frame(
        self, view: dict[str, Any], past: Past, choices: Choices, size: tuple[int, int], trouble: str = ""
    ) -> list[Text]:
        """At most as many lines as the window has. `size`: columns and lines. `trouble`: what is wrong."""
        width, height = size
        lines = self._head(view, width, trouble)
        if choices.helps:
            lines += [Text(line) for line in HELP.split("\n")]
        else:
            lines += draw_lanes(view, past, width, self._bars)
            if height >= LOW:
                lines += _moves(view, MOST_MOVES if height >= TALL else 1)
            room = height - len(lines) - 2 - (height >= LOW)  # beside the headings, and the keys
            rows = choices.rows(view)
            shown = choices.window(len(rows), max(0, room))
            if height >= LOW:
                lines.append(_tabs(view, choices, shown))
            columns, key = _columns(choices.table, view), choices.key(choices.table)
            lines += table(columns, [rows[at] for at in shown], width, key)
        for line in lines:
            if trouble and line is not lines[1]:
                line.stylize("dim")
            line.truncate(width, overflow="crop")
        if height < LEAST:
            return lines[:height]
        lines = lines[: height - 1]
        lines += [Text() for _ in range(height - 1 - len(lines))]
        return [*lines, _keys(view, choices, width)]

    def whole(self, view: dict[str, Any], past: Past) -> list[Text]:
        """A frame of all that there is, as wide as it has to be."""
        choices = Choices()
        lines = [*self._head(view, None), *draw_lanes(view, past, WHOLE, self._bars)]
        lines += _moves(view, MOST_MOVES)
        for name in TABLES:
            choices.table = name
            if rows := choices.rows(view):
                lines += [Text(), *table(_columns(name, view), rows, None)]
        return lines

    def _head(self, view: dict[str, Any], width: int | None, trouble: str = "") -> list[Text]:
        role = "server" if view.get("role") == "server" else "client"
        now, since, process = number(view.get("now")), number(view.get("since")), view.get("process")
        parts = [f"lane {text(view.get('version'))}", f"{role} {_whole(view.get('pid'))}"]
        if now is not None and since is not None:
            parts.append(f"up {age(now - since)}")
        if isinstance(process, dict):
            parts.append(f"{amount(process.get('memory'))}B of memory")
            parts.append(f"event loop {milliseconds(process.get('lag'))} late")
        end = clock(now)
        while width is not None and len(parts) > 1 and cell_len(", ".join(parts)) + 2 + cell_len(end) > width:
            parts.pop()
        title = ", ".join(parts)
        room = 0 if width is None else width - cell_len(title) - cell_len(end)
        line = Text(f"{title}{' ' * max(room, 2)}{end}", "bold")
        if trouble:
            second = Text(trouble, "bold red")
        else:
            states = {text(lane.get("state")) for lane in dicts(view.get("lanes"))}
            second = Text(text(view.get("headline")), "" if states & {"carries", NONE} else "bold red")
        if width is not None:
            second = Text(cut(second.plain, width), second.style)
        return [line, second]


def _moves(view: dict[str, Any], most: int) -> list[Text]:
    """The last changes of the lane, the newest first."""
    if number(view.get("moved")):
        return [Text(f"{amount(view['moved'])} times a session went on over another connection")]
    found = sorted(dicts(view.get("moves")), key=lambda move: number(move.get("time")) or 0.0)
    return [
        Text(
            f"{clock(move.get('time'))} {text(move.get('from'))} -> {text(move.get('to'))}:"
            f" {text(move.get('reason'))}"
        )
        for move in found[: -most - 1 : -1]
    ]


def _tabs(view: dict[str, Any], choices: Choices, shown: range) -> Text:
    """What the tables have, and which rows of which one are shown."""
    counts = {"sessions": number(view.get("session_count"))}
    if view.get("role") == "server":
        counts |= {name: float(len(dicts(view.get(name)))) for name in TABLES[1:]}
    line = Text()
    for name, count in counts.items():
        line.append("  " if line else "")
        what = f"{amount(count)} {name[:-1] if count == 1 else name}"
        line.append(what, "bold reverse" if name == choices.table else "")
    if shown and len(shown) < len(choices.rows(view)):
        line.append(f"  rows {shown[0] + 1} to {shown[-1] + 1}")
    return line


def _keys(view: dict[str, Any], choices: Choices, width: int) -> Text:
    """What the keys do."""
    words = [f"{key} {LABELS[key]}" for key in ORDERS[choices.table]]
    if view.get("role") == "server":
        words.append("tab next")
    words.append("arrows scroll")
    while words and len("  ".join([*words, *ALWAYS])) > width:
        words.pop()
    return Text(cut("  ".join([*words, *ALWAYS]), width), "dim")


def _bits(value: Any) -> str:
    found = number(value)
    return NONE if found is None else amount(found * 8)


def _whole(value: Any) -> str:
    found = number(value)
    return NONE if found is None else f"{found:.0f}"


def _span(value: Any) -> str:
    found = number(value)
    return NONE if found is None else age(found)


def _since(value: Any, now: float | None) -> str:
    found = number(value)
    return NONE if found is None or now is None else age(now - found)


def _quota(row: dict[str, Any]) -> str:
    quota = number(row.get("quota"))
    return NONE if quota is None else f"{amount(row.get('used'))}/{amount(quota)}"
