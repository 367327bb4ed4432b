"""Writes lines to a file, pipe or terminal without ever blocking whoever has something to say.

The reader of a pipe may have stopped, and a disk may hang. A write would block every greenlet of the process.
So a thread writes the lines, which it takes from a bounded queue. Lines that do not fit are counted, and the
count is told once the queue is empty again.
"""

import contextlib
import os
import queue
import select
import threading
from collections.abc import Callable
from pathlib import Path

from lane.errors import ConfigError

QUEUE_SIZE = 1024
"""The most lines that may wait to be written."""
FLUSH_TIME = 1.0
"""Seconds that the process waits for them at its end."""


def open_for_lines(file: Path, what: str) -> int:
    """Open `file` to add lines at its end: its descriptor. `what` it is, for errors. Raises ConfigError."""
    try:
        return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"cannot write the {what} {file}: {error.strerror}") from None


def release(fd: int | None) -> None:
    """Close a descriptor, unless it is a standard one."""
    if fd is not None and fd > 2:
        os.close(fd)


class LineWriter:
    """Writes lines to the file descriptor `fd` from its own thread, which closes `fd` at the end.

    `missed(count)` is called by that thread after `count` lines did not fit into the queue; it returns a line
    to write there about it, or an empty text. `dropped` counts these lines.
    """

    def __init__(self, fd: int, missed: Callable[[int], str], size: int = QUEUE_SIZE) -> None:
        self.dropped = 0
        self._missed = missed
        self._reported = 0
        self.fd = fd
        self._next: int | None = None
        self._turning = threading.Lock()
        self._lines: queue.Queue[str | None] = queue.Queue(size)
        self._closing = False
        # A daemon, since a write may block forever. gevent has patched nothing: this is a real thread, and
        # its blocking calls block no greenlet.
        self.thread = threading.Thread(target=self._run, name="lane-log", daemon=True)
        self.thread.start()

    def put(self, line: str) -> None:
        """Queue `line`, which has no end yet, or count it as dropped. Never blocks."""
        try:
            self._lines.put_nowait(line + "\n")
        except queue.Full:
            self.dropped += 1

    def redirect(self, fd: int) -> None:
        """Write to another descriptor from the next line on, and close the old one. Never blocks."""
        with self._turning:  # no limit: no holder of the lock waits for anything
            unused, self._next = self._next, fd
        release(unused)
        with contextlib.suppress(queue.Full):  # a full queue keeps the thread awake anyway
            self._lines.put_nowait("")

    def close(self, *, wait: bool = True) -> None:
        """Stop after the queued lines are written. Idempotent.

        `wait` for that, but not longer than FLUSH_TIME seconds.
        """
        if not self._closing:
            self._closing = True
            with contextlib.suppress(queue.Full):  # a full queue keeps the thread awake anyway
                self._lines.put_nowait(None)
            if wait:
                self.thread.join(FLUSH_TIME)

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
        release(self.fd)

    def _turn(self) -> None:
        """Change to the newest descriptor from `redirect`, if there is one."""
        with self._turning:  # no limit: no holder of the lock waits for anything
            fd, self._next = self._next, None
        if fd is not None:
            release(self.fd)
            self.fd = fd

    def _report_dropped(self) -> None:
        # Only this thread changes `_reported`, and only `put` changes `dropped`: no lock is needed.
        count = self.dropped - self._reported
        if count:
            self._reported += count
            if line := self._missed(count):
                self._write(line + "\n")

    def _write(self, line: str) -> None:
        data = line.encode(errors="backslashreplace")
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except BlockingIOError:  # another process made the terminal or pipe non-blocking
                poller = select.poll()  # not select, which is limited to descriptors up to 1023
                poller.register(self.fd, select.POLLOUT)
                poller.poll()
            except OSError:  # the reader is gone or the disk is full: nobody can be told
                return
