"""How many of everything this process holds: for whoever suspects that something in it grows.

Whatever has a table that lives as long as the process registers itself once, and counts only when it is
asked. SIGUSR1 asks, and the answer is one line in the log (docs/TUNING.md): a process that has run for a
month can be looked into without a restart.
"""

import ctypes
import gc
import logging
import os
import sys
from collections import Counter
from typing import Protocol
from weakref import WeakSet

from greenlet import greenlet

log = logging.getLogger("lane.census")


class Counted(Protocol):
    """What has tables."""

    def census(self) -> dict[str, int]:
        """From the name of each table, one word, to how many it holds. Called at any time; cheap."""


class _MallocInfo(ctypes.Structure):
    """glibc's `struct mallinfo2` (malloc.h, mallinfo(3))."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    )


_counted: WeakSet[Counted] = WeakSet()


def register(owner: Counted) -> None:
    """Count what `owner` holds for as long as it is there. Never keeps it alive."""
    _counted.add(owner)


def take() -> dict[str, int]:
    """From names to numbers: greenlets, threads, descriptors, objects and memory, then the tables.

    `objects` are those that the garbage collector tracks, `blocks` those of Python's allocator, `heap` the
    bytes that C code and large objects have of the C library's. Tables of the same name are added up. It
    looks at all objects: docs/TUNING.md says how long that takes.
    """
    objects = gc.get_objects()
    found: Counter[str] = Counter(
        # Not isinstance, which asks the objects themselves: a proxy may raise.
        greenlets=sum(issubclass(type(one), greenlet) and bool(one) for one in objects),
        threads=_entries("/proc/self/task"),
        descriptors=_entries("/proc/self/fd"),
        objects=len(objects),
        blocks=sys.getallocatedblocks(),
        heap=_heap(),
    )
    del objects
    for owner in [*_counted]:
        found.update(owner.census())
    return dict(found)


def tell() -> None:
    """Log it, as `name=number name=number`."""
    log.info("%s", " ".join(f"{name}={number}" for name, number in take().items()))


def _heap() -> int:
    """Bytes in use of the C library's heap; 0 where it does not tell."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2  # glibc 2.33
    except (OSError, AttributeError):
        return 0
    mallinfo.restype = _MallocInfo
    info = mallinfo()
    return int(info.uordblks + info.hblkhd)


def _entries(folder: str) -> int:
    """How many there are in a folder of procfs; 0 where there is no procfs."""
    try:
        return len(os.listdir(folder))
    except OSError:
        return 0
