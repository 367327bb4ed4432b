"""File descriptors when they run out: one in reserve, and a check of how many are left."""

import os
from contextlib import suppress


class Reserve:
    """Holds one descriptor, and frees it while the context lasts. The context must not switch greenlets."""

    def __init__(self) -> None:
        self._held: int | None = None
        self.__exit__()

    def __enter__(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # another thread took it: try again at the next exit
            self._held = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def has(self, count: int) -> bool:
        """Whether `count` more descriptors are free now. Takes some microseconds per descriptor."""
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
"""The one reserve of the process. It is made at import: once descriptors have run out, it is too late."""
