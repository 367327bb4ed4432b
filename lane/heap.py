"""Settings of Python's garbage collector and of the C library's allocator, for fewer delays.

A full collection stops the process while it visits each object. The objects from before the first connection
live as long as the process. They need no visit. Connections leave no garbage in circles, so it is enough to
look for some seldom. By default, the objects of each new connection would be visited several times.

A busy session allocates and frees buffers of 128 KB all the time. By default glibc maps each buffer, or
returns the end of its heap to the system at once. Then the kernel must clear and map the pages again, which
takes a tenth of the CPU time of a bulk transfer. So some free memory is kept.
"""

import ctypes
import gc
import os
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
COLLECT = 10_000, 5, 20
"""New objects after which the collector looks at them, and how many such looks cause one at older objects.

10,000 objects, which 100 connections have, take about half a millisecond."""
KEEP = 16 << 20
"""Free bytes at the end of the heap that are kept."""
MAP = 4 << 20
"""The size from which an allocation gets its own mapping, bytes."""


def settle() -> None:
    """Exclude the loaded objects from all later collections. Call it once, before anything runs.

    What imports have left as garbage stays as well: some 200 KB. To find it would take a tenth of the start.
    """
    gc.freeze()
    gc.set_threshold(*COLLECT)


def keep_buffers() -> None:
    """Set glibc's limits. Other C libraries have none."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_TRIM_THRESHOLD, KEEP)
    mallopt(_M_MMAP_THRESHOLD, MAP)


def give_back() -> None:
    """Return all free memory to the system, after a peak. It takes some milliseconds for each 100 MB."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def resident() -> int:
    """Bytes of memory of this process; 0 if the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, IndexError, ValueError):
        return 0
