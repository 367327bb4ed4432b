"""Texts of peers made safe for terminals and logs, where control characters would have an effect.

Beside ASCII's control characters there are the C1 controls (U+009B begins an escape sequence), and characters
that reverse the direction of the following text. A line end would begin a line that lane never wrote.
Complaints to standard error are made safe here, too.
"""

import sys


def printable(text: str) -> str:
    """`text` with a `?` for each character that Unicode does not call printable. Spaces are kept."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def describe(error: BaseException) -> str:
    """An exception on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def complain(message: str) -> None:
    """Write one line to standard error, in one piece: the log's own thread may write there, too."""
    sys.stderr.write(f"{printable(message)}\n")
    sys.stderr.flush()
