"""What the user chose by keys: the table below, its order, and how far it is scrolled."""

from typing import Any

from lane.shown import dicts, number, text

PAGE = 10
"""Lines that a page key scrolls."""
TABLES = "sessions", "users", "workers"

ORDERS: dict[str, dict[str, tuple[str, str]]] = {
    "sessions": {
        "d": ("down_rate", "down"), "u": ("up_rate", "up"), "a": ("age", "age"), "t": ("target", "target"),
    },
    "users": {
        "d": ("down_rate", "down"), "u": ("up_rate", "up"), "s": ("sessions", "sessions"),
        "t": ("name", "name"),
    },
    "workers": {"s": ("sessions", "sessions"), "a": ("since", "since")},
}  # fmt: skip
"""The fields that each key sorts a table by: the second one among rows whose first is the same."""
TEXTS = "target", "name"
RISING = (*TEXTS, "age")
"""Fields whose smallest value comes first."""


class Choices:
    """What is shown. It changes by `press`."""

    def __init__(self) -> None:
        self.table = "sessions"
        self.helps = False
        self.over = False
        """Whether the user wants to leave."""
        self.offset = 0
        self._keys: dict[str, str] = {}
        self._backwards: dict[str, bool] = {}

    def key(self, table: str) -> str:
        """The key that a table is sorted by."""
        return self._keys.get(table, next(iter(ORDERS[table])))

    def press(self, key: str, *, server: bool = True) -> None:
        """Act on a key: a character, or the name of a special one. Unknown ones do nothing."""
        if key == "ctrl-c" or (key == "q" and not self.helps):
            self.over = True
        elif self.helps or key in ("?", "h"):
            self.helps = not self.helps
        elif key == "tab" and server:
            self.table = TABLES[(TABLES.index(self.table) + 1) % len(TABLES)]
            self.offset = 0
        elif key in ORDERS[self.table]:
            self._backwards[self.table] = key == self.key(self.table) and not self.backwards
            self._keys[self.table] = key
            self.offset = 0
        elif key in (steps := {"up": -1, "down": 1, "page up": -PAGE, "page down": PAGE, "home": -(10**6)}):
            self.offset = max(0, self.offset + steps[key])
        elif key == "end":
            self.offset = 10**6

    @property
    def backwards(self) -> bool:
        """Whether the order is turned round, by the same key once more."""
        return self._backwards.get(self.table, False)

    def rows(self, view: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of the table in the chosen order. Equal ones stay in the order of the view."""
        first, second = ORDERS[self.table][self.key(self.table)]

        def rank(row: dict[str, Any]) -> tuple[Any, ...]:
            if first in TEXTS:
                return (text(row.get(first)).casefold(),)
            sign = 1 if first in RISING else -1
            return tuple(sign * (number(row.get(field)) or 0.0) for field in (first, second))

        rows = sorted(dicts(view.get(self.table)), key=rank)
        return rows[::-1] if self.backwards else rows

    def window(self, count: int, height: int) -> range:
        """The rows to show if there is room for `height` of `count`. Keeps the offset within them."""
        self.offset = max(0, min(self.offset, count - height))
        return range(self.offset, min(count, self.offset + max(0, height)))
