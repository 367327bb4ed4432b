"""Logging that never blocks: a log that nobody reads must not stop the traffic.

Standard error may be a pipe whose reader has stopped. So a thread writes the lines (`lane.line_writer`).

A line is text for people, or a JSON object for programs: `time` (ISO 8601), `level`, `logger` and `message`;
`process`, if a server has several; `exception`, a traceback.
"""

import contextlib
import json
import logging
import os
import select
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime
from pathlib import Path
from time import monotonic

from lane.line_writer import QUEUE_SIZE, LineWriter, open_for_lines, release
from lane.text import printable

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


class _Lines(logging.Formatter):
    """One line per record, whatever a peer's text has in it. Tracebacks and Python's warnings have more."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.name != "py.warnings":
            text = text.replace(record.message, printable(record.message), 1)
        return "\n".join(map(printable, text.split("\n")))


class _Json(logging.Formatter):
    """A JSON object per record, in ASCII: no text of a peer can begin a line or a field of its own."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        what = {"level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        failure = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        return json.dumps({"time": iso_time(record.created), **what, **self._process, **failure})


def iso_time(seconds: float) -> str:
    """A time since the epoch as ISO 8601, with milliseconds and the offset of this machine's zone."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def _formatter(process: str, form: str) -> logging.Formatter:
    """Writes records of `process`, which may have no name, as `form`, which is one of FORMATS."""
    if form == "json":
        return _Json(process)
    prefix = f"{process}: " if process else ""
    return _Lines(f"%(asctime)s %(levelname)s %(name)s: {prefix}%(message)s", "%Y-%m-%d %H:%M:%S")


_FORMAT = _formatter("", "text")


class Throttle:
    """Limits similar messages: for each kind one in `period` seconds, or `burst` at once.

    The newest `most` kinds are remembered.
    """

    def __init__(
        self, period: float = 60.0, most: int = 256, clock: Callable[[], float] = monotonic, *, burst: int = 1
    ) -> None:
        self._period = period
        self._most = most
        self._clock = clock
        self._burst = float(burst)
        self._kinds: OrderedDict[Hashable, tuple[float, float, int]] = OrderedDict()
        """By kind: the number that may be logged, at which time, and the number suppressed since then."""

    def __len__(self) -> int:
        return len(self._kinds)

    def allows(self, kind: Hashable) -> int | None:
        """None: do not log it. Otherwise log it; the result is the number suppressed since the last one."""
        now = self._clock()
        left, since, missed = self._kinds.pop(kind, (self._burst, now, 0))
        allowed = min(left + (now - since) / self._period, self._burst)
        due = allowed >= 1
        self._kinds[kind] = (allowed - 1, now, 0) if due else (left, since, missed + 1)
        if len(self._kinds) > self._most:
            self._kinds.popitem(last=False)
        return missed if due else None


class DirectWriter(logging.Handler):
    """Writes to the file descriptor `fd` at once. It drops what would have to wait.

    It is for a process that forks, which must have no threads.
    """

    process = ""
    """The name of the process, for each line."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.setFormatter(_FORMAT)
        self._fd = fd

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line if the reader is ready for it."""
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        with contextlib.suppress(OSError):  # the reader is gone or the disk is full: nobody can be told
            if poller.poll(0):  # so a pipe has room for a piece of this length
                os.write(self._fd, f"{self.format(record)[: select.PIPE_BUF - 4]}\n".encode(errors="replace"))

    def redirect(self, fd: int) -> None:
        """Write to another descriptor from now on, and close the old one."""
        release(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Close the descriptor."""
        release(self._fd)
        super().close()


class QueuedWriter(logging.Handler):
    """Writes log lines to the file descriptor `fd` from a thread: see `lane.line_writer`.

    `close` waits at most FLUSH_TIME seconds for the queued lines. `logging` calls it at exit.
    """

    process = ""
    """The name of the process, for each line."""

    def __init__(self, fd: int, size: int = QUEUE_SIZE) -> None:
        super().__init__()
        self.setFormatter(_FORMAT)
        self.lines = LineWriter(fd, self._missed, size)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line, or count it as dropped. Never blocks."""
        try:
            line = self.format(record)
        except Exception as error:  # such as a plugin's bug; logging would print it, which may block
            line = f"a message of {record.name} could not be written: {type(error).__name__}"
        self.lines.put(line)

    def redirect(self, fd: int) -> None:
        """Write to another descriptor from the next line on, and close the old one. Never blocks."""
        self.lines.redirect(fd)

    def close(self) -> None:
        """Stop after the queued lines are written, or after FLUSH_TIME seconds."""
        self.lines.close()
        super().close()

    def _missed(self, count: int) -> str:
        text = f"{count} messages dropped"
        return self.format(logging.LogRecord("lane.log", logging.WARNING, "", 0, text, None, None))


def setup(
    level: str, file: Path | None = None, form: str = "text", *, threads: bool = True, process: str = ""
) -> QueuedWriter | DirectWriter:
    """Send lane's log at `level` (one of LEVELS) and above to `file`, or to standard error.

    `form` is one of FORMATS. Each message names the `process`, if that has a name. Without `threads` it is
    written by the caller's thread.

    Warnings of plugins and libraries go there too, since their own writes to standard error might block. A
    second call replaces the first.

    Raises ConfigError if `file` cannot be written.
    """
    fd = _open(file)
    root = logging.getLogger()
    for handler in _writers():
        root.removeHandler(handler)
        handler.close()
    writer = QueuedWriter(fd) if threads else DirectWriter(fd)
    writer.process = process
    writer.setFormatter(_formatter(process, form))
    root.addHandler(writer)
    logging.getLogger("lane").setLevel(level.upper())
    logging.captureWarnings(True)
    return writer


def reopen(level: str, file: Path | None, form: str = "text") -> None:
    """Continue the log at `level`, in the file that now has the name `file`. Does not wait for the old file.

    If this raises ConfigError, because `file` cannot be written, nothing changes.
    """
    for writer in _writers():
        writer.redirect(_open(file))
        writer.setFormatter(_formatter(writer.process, form))
    logging.getLogger("lane").setLevel(level.upper())


def _writers() -> list[QueuedWriter | DirectWriter]:
    handlers = logging.getLogger().handlers
    return [handler for handler in handlers if isinstance(handler, QueuedWriter | DirectWriter)]


def _open(file: Path | None) -> int:
    """Open `file`, or standard error, for writing. Return the descriptor. Raises ConfigError."""
    return 2 if file is None else open_for_lines(file, "log file")
