"""`lane why`: it asks a running client which transport it uses, and why."""

import json
from collections.abc import Iterable
from typing import Any

from lane.asking import ask
from lane.cli import why_report
from lane.cli.fold import fold
from lane.config import WhyConfig


def run(config: WhyConfig, plugins: object) -> int:
    """Print the client's answers. Raises Unreachable if no client answers, or if a followed client ends."""
    show = _print_json if config.json else _People()
    try:
        for snapshot in ask(config.control, follow=config.follow):
            show(snapshot)
    except KeyboardInterrupt:
        if not config.follow:  # following always ends so, and that is not a failure
            raise
    return 0


def _print_json(snapshot: dict[str, Any]) -> None:
    print(json.dumps(snapshot), flush=True)


class _People:
    """Prints the whole first snapshot, and only the news of later ones."""

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None

    def __call__(self, snapshot: dict[str, Any]) -> None:
        if self._last is None:
            self._say(why_report.whole(snapshot).split("\n"))
        else:
            changes = why_report.changes(snapshot, self._last)
            self._say([*("  ".join(change) for change in changes), why_report.brief(snapshot)])
        self._last = snapshot

    def _say(self, lines: Iterable[str]) -> None:
        print("\n".join(fold(line, 2) for line in lines), flush=True)
