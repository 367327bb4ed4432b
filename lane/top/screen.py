"""The terminal of `lane top`: a screen of its own, the size, the keys and the signals.

However it ends, the terminal is as before: after an error, a signal, and while the user has stopped lane.
"""

import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

_KEY = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1bO.|\x1b(?=\x1b)|\x1b[^\[O]|[^\x1b]", re.DOTALL)
_NAMES = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"k": "up", b"j": "down",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down", b" ": "page down",
    b"\x1b[H": "home", b"\x1bOH": "home", b"\x1b[1~": "home",
    b"\x1b[F": "end", b"\x1bOF": "end", b"\x1b[4~": "end", b"\t": "tab", b"\x03": "ctrl-c",
}  # fmt: skip
_ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
MOST_KEYS = 256
"""Bytes of keys that are read at once."""


def is_terminal() -> bool:
    """Whether there is a terminal to draw on and to read keys from."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def is_plain() -> bool:
    """Whether standard output takes no other characters than those of ASCII."""
    return "utf" not in (sys.stdout.encoding or "").lower()


class Screen:
    """A context in which the terminal belongs to `lane top`."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._mode: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self._wakeup = -1
        self._signals, self._write = os.pipe()
        for end in (self._signals, self._write):
            os.set_blocking(end, False)
        self._stopping = self._ending = False
        self._rest = b""

    def __enter__(self) -> "Screen":
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (*_ENDING, signal.SIGTSTP, signal.SIGWINCH):
            self._handlers[number] = signal.signal(number, self._note)
        self._mode = termios.tcgetattr(0)
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._signals)
        os.close(self._write)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines. What the environment says of them may be old."""
        columns, lines = os.get_terminal_size(1)
        return columns or 80, lines or 24

    def show(self, lines: Sequence[Text]) -> None:
        """Replace the frame."""
        assert self._live is not None
        self._console.size = self.size
        try:
            self._live.update(Text("\n").join(lines), refresh=True)
        except OSError:  # it is gone
            self._ending = True

    def wait(self, news: int, seconds: float) -> list[str]:
        """Wait for a key, a signal, or until `news` is readable. Returns the keys.

        A signal that ends lane is the key `ctrl-c`, and so is the end of the terminal.
        """
        ready, _, _ = select.select([0, news, self._signals], [], [], seconds)
        if self._signals in ready:
            os.read(self._signals, 4096)
        if self._stopping:
            self._stop()
        if self._ending:
            return ["ctrl-c"]
        if 0 not in ready:
            return []
        try:
            data = os.read(0, MOST_KEYS)
        except OSError:
            data = b""
        return self._keys(data) if data else ["ctrl-c"]

    def _keys(self, data: bytes) -> list[str]:
        data, keys, end = self._rest + data, [], 0
        for match in _KEY.finditer(data):
            end = match.end()
            keys.append(_NAMES.get(match[0]) or match[0].decode(errors="replace"))
        self._rest = data[end:][:MOST_KEYS]
        return keys

    def _begin(self) -> None:
        tty.setcbreak(0)
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False,
                          redirect_stderr=False)  # fmt: skip
        self._live.start()

    def _leave(self) -> None:
        live, self._live = self._live, None
        with suppress(OSError, termios.error):  # the terminal is gone
            if live is not None:
                live.stop()
            termios.tcsetattr(0, termios.TCSADRAIN, self._mode)

    def _stop(self) -> None:
        """Stop, as Ctrl-Z asks, with the terminal as before, until the shell has lane go on."""
        self._stopping = False
        self._leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # it has no effect where there is no shell to go on from
        signal.signal(signal.SIGTSTP, self._note)
        self._begin()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            self._stopping = True
        elif number != signal.SIGWINCH:
            self._ending = True
