"""Descriptors of this process, where they run out: one in reserve, and whether there are enough left."""

import os
from contextlib import suppress


class Reserve:
    """A descriptor that is free while the context lasts, in which nothing may switch greenlets."""

    def __init__(self) -> None:
        self._held: int | None = None
        self.__exit__()

    def __enter__(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # another thread took it: the next time, then
            self._held = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def has(self, count: int) -> bool:
        """Whether `count` more descriptors could be had now; some microseconds each to find out."""
        if self._held is None:
            return False
        found: list[int] = []
        with suppress(OSError):
            while len(found) < count:
                found.append(os.dup(self._held))
        for one in found:
            os.close(one)
        return len(found) == count


reserve = Reserve()
"""One for all, made now: there is no descriptor when it is needed."""
