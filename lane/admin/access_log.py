"""The access log: one line for each session of a server, at its end.

A line is text, as `name=value` in a fixed order, or a JSON object with the same names (docs/METRICS.md).
Users and targets are texts of others: they cannot begin a line or a field of their own. All workers of a
server write to the same file. Whoever reads it too slowly loses lines, which the ordinary log counts, and
holds up nobody.
"""

import json
import logging
from pathlib import Path
from time import time

from lane.errors import LaneError
from lane.line_writer import LineWriter, open_for_lines, release
from lane.log import Throttle, iso_time
from lane.server.live import LiveSession

STANDARD_OUTPUT = Path("-")
MOST_TEXT = 256
"""Characters of a value that a line may have. A host name has fewer."""

log = logging.getLogger("lane.server")


class AccessLog:
    """Writes to `file`, or nowhere if that is None. Call it at the end of each session.

    `form` is `text` or `json`. Raises ConfigError if `file` cannot be written.
    """

    def __init__(self, file: Path | None, form: str) -> None:
        self._writer: LineWriter | None = None
        self._form = form
        self._throttle = Throttle()
        self.reopen(file, form)

    def reopen(self, file: Path | None, form: str) -> None:
        """Continue in the file that now has the name `file`. If this raises ConfigError, nothing changes."""
        fd = None if file is None else _open(file)
        self._form = form
        if fd is None:
            self.close(wait=False)
        elif self._writer is None:
            self._writer = LineWriter(fd, self._missed)
        else:
            self._writer.redirect(fd)

    def __call__(self, live: LiveSession, error: LaneError | None) -> None:
        """Write the line of a session that has ended. Never blocks."""
        if self._writer is not None:
            self._writer.put(line(fields(live, error), self._form))

    def close(self, *, wait: bool = True) -> None:
        """Write what is queued: see `LineWriter.close`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close(wait=wait)

    def _missed(self, count: int) -> str:
        """Tell the ordinary log, since this one is for programs."""
        if (missed := self._throttle.allows("")) is not None:
            again = f", and {missed} more times before that" if missed else ""
            log.warning("%d lines of the access log were dropped: it is read too slowly%s", count, again)
        return ""


def fields(live: LiveSession, error: LaneError | None) -> dict[str, str | int | float | None]:
    """What a line says of a session that ended with `error`, or well. `time` is that of its end."""
    return {
        "time": iso_time(time()),
        "user": live.user[:MOST_TEXT],
        "client": live.peer[:MOST_TEXT],
        "transport": live.transport,
        "kind": live.kind,
        "target": None if live.target is None else str(live.target)[: MOST_TEXT + len(":65535")],
        "up": live.up,
        "down": live.down,
        "seconds": round(live.seconds, 3),
        "end": "clean" if error is None else str(error)[:MOST_TEXT],
    }


def line(values: dict[str, str | int | float | None], form: str) -> str:
    """One line without its end, in ASCII."""
    if form == "json":
        return json.dumps(values)
    return " ".join(f"{name}={_word(value)}" for name, value in values.items())


def _word(value: str | float | None) -> str:
    """A value as one word: in quotes, as JSON has them, if it would not be one."""
    if value is None:
        return "-"
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=\\') and text not in ("", "-")
    return text if plain else json.dumps(text)


def check(file: Path | None) -> None:
    """Raise ConfigError if the access log could not be written to `file`, without keeping it open."""
    if file is not None:
        release(_open(file))


def _open(file: Path) -> int:
    return 1 if file == STANDARD_OUTPUT else open_for_lines(file, "access log")
