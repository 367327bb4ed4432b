"""What people type, and what they most likely meant."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
"""A key, which may begin with dashes."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean NAME?` where something of `known` is close to `word`; else nothing."""
    found = get_close_matches(word, sorted(known), 1)
    return f", did you mean {found[0]}?" if found else ""


def joined(argv: Sequence[str], options: Iterable[str], valued: Iterable[str]) -> list[str]:
    """`argv` with values that begin with a dash put behind their option (`--key=-x`): it is no option then.

    `options`: all there are; `valued`: those that need a value.
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
