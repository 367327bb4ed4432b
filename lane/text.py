"""Text of peers on its way to a terminal or a log, where control characters would do what they say.

Beside those of ASCII there are the C1 controls (U+009B begins an escape sequence), and characters that turn
the direction of all that follows. A line end would begin a line that lane never wrote.
"""


def printable(text: str) -> str:
    """`text` with a `?` for whatever Unicode does not call printable; space is kept."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)
