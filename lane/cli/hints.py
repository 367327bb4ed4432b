"""Corrections of the user's input: suggestions for typos, and values that begin with a dash."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
"""A key, which may begin with dashes."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean NAME?` if a name in `known` is close to `word`; else an empty text."""
    found = get_close_matches(word, sorted(known), 1)
    return f", did you mean {found[0]}?" if found else ""


def joined(argv: Sequence[str], options: Iterable[str], valued: Iterable[str]) -> list[str]:
    """Join each value that begins with a dash to its option (`--key=-x`), so that it is not taken for an
    option.

    `options` are all options. `valued` are those that need a value.
    """
    everything, needy = {*options}, {*valued}
    found: list[str] = []
    for word in argv:
        dashed = word.startswith("-") and word.partition("=")[0] not in everything
        if dashed and found and found[-1] in needy and (word[:2] != "--" or _KEY.fullmatch(word)):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found
