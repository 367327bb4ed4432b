"""The census: a count of everything that this process holds, to find leaks.

Each object with a table that lives as long as the process registers itself once. It counts only on request.
SIGUSR1 requests a census, which is logged as one line (docs/TUNING.md). So a process that has run for a month
can be examined without a restart.
"""

import ctypes
import gc
import logging
import os
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Protocol
from weakref import WeakSet

from greenlet import greenlet

from lane.heap import blocks
from lane.tasks import idle

log = logging.getLogger("lane.census")


class Counted(Protocol):
    """An object with tables."""

    def census(self) -> dict[str, int]:
        """The number of entries of each table, by its name (one word). Called at any time; must be fast."""


class _MallocInfo(ctypes.Structure):
    """glibc's `struct mallinfo2` (malloc.h, mallinfo(3))."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    )


_counted: WeakSet[Counted] = WeakSet()


def register(owner: Counted) -> None:
    """Include the tables of `owner` as long as it exists. The reference to it is weak."""
    _counted.add(owner)


def take() -> dict[str, int]:
    """Count greenlets, threads, descriptors, objects, memory and the tables. Return the numbers by name.

    Greenlets that wait for a task (`lane.tasks`) do not count. `objects` are tracked by the garbage
    collector. `blocks` are those of Python's allocator, 0 if they are not known (`lane.heap.blocks`). `heap`
    is the number of bytes that C code and large objects hold in the C library's heap. Tables with the same
    name are added up. The census visits all objects; docs/TUNING.md says how long that takes.
    """
    objects = gc.get_objects()
    found: Counter[str] = Counter(
        # Not isinstance, which calls into the objects: a proxy may raise.
        greenlets=sum(issubclass(type(one), greenlet) and bool(one) for one in objects) - idle(),
        threads=_entries("/proc/self/task"),
        descriptors=_entries("/proc/self/fd"),
        objects=len(objects),
        blocks=blocks(),
        heap=_heap(),
    )
    del objects
    for owner in [*_counted]:
        found.update(owner.census())
    return dict(found)


def tell() -> None:
    """Log a census, as `name=number name=number`."""
    log.info("%s", " ".join(f"{name}={number}" for name, number in take().items()))


def _heap() -> int:
    """Bytes in use in the C library's heap; 0 if the library does not say."""
    mallinfo = _mallinfo()
    if mallinfo is None:
        return 0
    info = mallinfo()
    return int(info.uordblks + info.hblkhd)


@cache
def _mallinfo() -> Callable[[], _MallocInfo] | None:
    """glibc's function, looked up once: each look-up leaves objects that only the collector finds."""
    try:
        found = ctypes.CDLL(None).mallinfo2  # glibc 2.33
    except (OSError, AttributeError):
        return None
    found.restype = _MallocInfo
    return found


def _entries(folder: str) -> int:
    """The number of entries in a folder of procfs; 0 without procfs."""
    try:
        return len(os.listdir(folder))
    except OSError:
        return 0
