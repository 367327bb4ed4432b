"""`lane top`: what a running client or server carries, drawn anew each second."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.text import Text

from lane.cli import option_parser
from lane.config import TopConfig, status_config, why_config
from lane.errors import Unreachable, UsageError
from lane.meeting import server_path
from lane.shown import age
from lane.top.choices import Choices
from lane.top.feed import Feed, Source
from lane.top.past import Past
from lane.top.picture import Picture

PERIOD = 1.0
"""Seconds after which a frame is drawn anew without news, while lane is waited for."""


def run(config: TopConfig, plugins: object) -> int:
    """Show the views until the user leaves. Raises Unreachable if nobody answers at the beginning."""
    if config.once:
        _once(config)
        return 0
    source, first = _find(config)
    from lane.top import screen  # noqa: PLC0415 - only systems with what is asked above have terminals

    if not screen.is_terminal():
        raise UsageError("lane top needs a terminal: lane top --once prints what it would show")
    _show(source, first)
    return 0


def _show(source: Source, view: dict[str, Any]) -> None:
    from lane.top.screen import Screen, is_plain  # noqa: PLC0415

    picture, choices, feed = Picture(plain=is_plain()), Choices(), Feed(source)
    past, lost = Past(), 0.0
    past.take(view, fresh=True)
    with Screen() as screen:
        while not choices.over:
            with feed.lock:  # no limit: it is held for moments
                shown, known = (feed.view, feed.past) if feed.view is not None else (view, past)
                trouble = feed.trouble
                lost = (lost or monotonic()) if trouble else 0.0
                if trouble:
                    trouble = f"gone for {age(monotonic() - lost)}, waiting for it: {trouble}"
                frame = picture.frame(shown, known, choices, screen.size, trouble)
            screen.show(frame)
            for key in screen.wait(feed.news, PERIOD):
                choices.press(key, server=shown.get("role") == "server")
            feed.heard()
    feed.close()


def _once(config: TopConfig) -> None:
    """Print one frame, or one view as JSON."""
    source, _ = _find(config)
    past, views = Past(), source.views()
    view = first = next(views)
    past.take(view, fresh=True)
    if view.get("sessions"):  # their rates are known from the second view on
        view = next(views)
        past.take(view, fresh=False)
    if config.json:
        print(json.dumps({**view, "history": first.get("history")}))
        return
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    lines = Picture(plain=plain).whole(view, past)
    # Not cut to the width of a terminal that is not there.
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(Text("\n").join(lines), soft_wrap=True)


def _find(config: TopConfig) -> tuple[Source, dict[str, Any]]:
    """Whom to ask, and the first answer. Raises Unreachable."""
    failures: list[tuple[Source, str]] = []
    given = [Source(config.path, config.who, config.who == "server")] if config.path else _usual()
    for source in given:
        try:
            return source, next(source.views(follow=False))
        except Unreachable as error:
            failures.append((source, str(error)))
    there = [error for source, error in failures if _is_there(source.path)]
    if config.path or there:
        raise Unreachable(there[0] if there else failures[0][1])
    paths = " and no ".join(f"{source.who} at {source.path}" for source, _ in failures)
    raise Unreachable(f"there is no {paths}: --control or --state-dir names another one")


def _is_there(path: Path) -> bool:
    """Whether there is something at `path`, or may be: it is not for this user to know."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _usual() -> Iterator[Source]:
    """The client of `lane why`, and the server of `lane status`."""
    client = _parsed("why")
    if client.control != "off":
        yield Source(why_config(client).control, "client")
    yield Source(server_path(status_config(_parsed("status")).state_dir), "server", named=True)


def _parsed(command: str) -> Namespace:
    """The options of another command, as files and variables set them."""
    return option_parser.parse(command, [], lambda _: None)[0]
