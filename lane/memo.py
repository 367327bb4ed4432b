"""Results that are remembered, until a crowd has gone.

Most connections ask for the same few addresses again and again. But a crowd fills such a memory with others.
Each lies where the crowd's own objects were, and keeps a page of memory or more from the system.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_clear: list[Callable[[], None]] = []


def remembered(most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function of a module: its last `most` results are remembered, until `forget`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        found = lru_cache(most)(function)
        _clear.append(found.cache_clear)
        return found  # type: ignore[return-value]  # typeshed's type of it has no parameters

    return decorate


def forget() -> None:
    """Forget all results."""
    for clear in _clear:
        clear()
