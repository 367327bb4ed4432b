"""A line on the terminal that shows how far something is. In a pipe there is none."""

import shutil
import sys
from types import TracebackType

from lane.cli.fold import fold
from lane.text import printable

_BAR = 20


class Progress:
    """One line on standard error, which is written anew and goes away at the end. Only on a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, text: str, part: float | None = None) -> None:
        """Show `text`, behind a bar that is full for 1 if there is a `part`."""
        if not self._shown:
            return
        if part is not None:
            full = round(_BAR * min(max(part, 0.0), 1.0))
            text = f"[{'#' * full}{'.' * (_BAR - full)}] {text}"
        text = printable(text)[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def say(self, line: str, indent: int = 0) -> None:
        """Print a line of the result on standard output. Where it has to be folded, the rest is indented."""
        self.clear()
        print(fold(printable(line), indent), flush=True)

    def clear(self) -> None:
        """Remove the line."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0
