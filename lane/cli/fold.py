"""Lines that fit a terminal. In a pipe they stay whole, for programs that read them."""

import shutil
import sys
from textwrap import wrap


def fold(line: str, indent: int = 0) -> str:
    """`line` in lines that a terminal does not break within words; all but the first are indented."""
    columns = shutil.get_terminal_size().columns
    if len(line) <= columns or not sys.stdout.isatty():
        return line
    return "\n".join(wrap(line, columns, subsequent_indent=" " * indent, break_on_hyphens=False))
