"""Logging that never blocks: a log that nobody reads must not stop the traffic.

Standard error may be a pipe whose reader has stopped. A write to it would block every greenlet of the
process. So a thread writes the lines, which it takes from a bounded queue. Lines that do not fit are
counted. The count is logged once the queue is empty again.
"""

import contextlib
import logging
import os
import queue
import select
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from time import monotonic

from lane.errors import ConfigError
from lane.text import printable

QUEUE_SIZE = 1024
"""The most lines that may wait to be written."""
FLUSH_TIME = 1.0
"""Seconds that the process waits for them at its end."""
LEVELS = ("debug", "info", "warning", "error")


class _Lines(logging.Formatter):
    """One line per record, whatever a peer's text has in it. Tracebacks and Python's warnings have more."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.name != "py.warnings":
            text = text.replace(record.message, printable(record.message), 1)
        return "\n".join(map(printable, text.split("\n")))


def _lines(prefix: str = "") -> _Lines:
    return _Lines(f"%(asctime)s %(levelname)s %(name)s: {prefix}%(message)s", "%Y-%m-%d %H:%M:%S")


_FORMAT = _lines()


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
        _release(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Close the descriptor."""
        _release(self._fd)
        super().close()


class QueuedWriter(logging.Handler):
    """Writes log lines to the file descriptor `fd` from its own thread, which closes `fd` at the end.

    `dropped` counts the lines that did not fit into the queue. `close` waits at most FLUSH_TIME seconds for
    the queued lines. `logging` calls it at exit.
    """

    def __init__(self, fd: int, size: int = QUEUE_SIZE) -> None:
        super().__init__()
        self.setFormatter(_FORMAT)
        self.dropped = 0
        self._reported = 0
        self._fd = fd
        self._next: int | None = None
        self._turning = threading.Lock()
        self._lines: queue.Queue[str | None] = queue.Queue(size)
        self._closing = False
        # A daemon, since a write may block forever. gevent has patched nothing: this is a real thread, and
        # its blocking calls block no greenlet.
        self._thread = threading.Thread(target=self._run, name="lane-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line, or count it as dropped. Never blocks."""
        try:
            line = self.format(record)
        except Exception as error:  # such as a plugin's bug; logging would print it, which may block
            line = f"a message of {record.name} could not be written: {type(error).__name__}"
        try:
            self._lines.put_nowait(line + "\n")
        except queue.Full:
            self.dropped += 1

    def redirect(self, fd: int) -> None:
        """Write to another descriptor from the next line on, and close the old one. Never blocks."""
        with self._turning:  # no limit: no holder of the lock waits for anything
            unused, self._next = self._next, fd
        _release(unused)
        with contextlib.suppress(queue.Full):  # a full queue keeps the thread awake anyway
            self._lines.put_nowait("")

    def close(self) -> None:
        """Stop after the queued lines are written, or after FLUSH_TIME seconds."""
        if not self._closing:
            self._closing = True
            with contextlib.suppress(queue.Full):  # a full queue keeps the thread awake anyway
                self._lines.put_nowait(None)
            self._thread.join(FLUSH_TIME)
        super().close()

    def _run(self) -> None:
        while True:
            line = self._lines.get()  # no limit: this thread does nothing else
            self._turn()
            if line is not None:
                self._write(line)
            if self._lines.empty():
                self._report_dropped()
                if self._closing:
                    break
        _release(self._fd)

    def _turn(self) -> None:
        """Change to the newest descriptor from `redirect`, if there is one."""
        with self._turning:  # no limit: no holder of the lock waits for anything
            fd, self._next = self._next, None
        if fd is not None:
            _release(self._fd)
            self._fd = fd

    def _report_dropped(self) -> None:
        # Only this thread changes `_reported`, and only `emit` changes `dropped`: no lock is needed.
        count = self.dropped - self._reported
        if count:
            self._reported += count
            text = f"{count} messages dropped"
            record = logging.LogRecord("lane.log", logging.WARNING, "", 0, text, None, None)
            self._write(self.format(record) + "\n")

    def _write(self, line: str) -> None:
        data = line.encode(errors="backslashreplace")
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # another process made the terminal or pipe non-blocking
                poller = select.poll()  # not select, which is limited to descriptors up to 1023
                poller.register(self._fd, select.POLLOUT)
                poller.poll()
            except OSError:  # the reader is gone or the disk is full: nobody can be told
                return


def setup(
    level: str, file: Path | None = None, *, threads: bool = True, prefix: str = ""
) -> QueuedWriter | DirectWriter:
    """Send lane's log at `level` (one of LEVELS) and above to `file`, or to standard error.

    Each message begins with `prefix`. Without `threads` it is written by the caller's thread.

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
    if prefix:
        writer.setFormatter(_lines(prefix))
    root.addHandler(writer)
    logging.getLogger("lane").setLevel(level.upper())
    logging.captureWarnings(True)
    return writer


def reopen(level: str, file: Path | None) -> None:
    """Continue the log at `level`, in the file that now has the name `file`. Does not wait for the old file.

    If this raises ConfigError, because `file` cannot be written, nothing changes.
    """
    for writer in _writers():
        writer.redirect(_open(file))
    logging.getLogger("lane").setLevel(level.upper())


def _writers() -> list[QueuedWriter | DirectWriter]:
    handlers = logging.getLogger().handlers
    return [handler for handler in handlers if isinstance(handler, QueuedWriter | DirectWriter)]


def _release(fd: int | None) -> None:
    if fd is not None and fd > 2:  # never close standard error
        os.close(fd)


def _open(file: Path | None) -> int:
    """Open `file`, or standard error, for writing. Return the descriptor. Raises ConfigError."""
    if file is None:
        return 2
    try:
        return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"cannot write the log file {file}: {error.strerror}") from None
