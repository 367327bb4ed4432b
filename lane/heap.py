"""Settings of Python's garbage collector and of the C library's allocator, for fewer delays.

A full collection stops the process while it visits each object. The objects from before the first connection
live as long as the process. They need no visit. What has ended leaves nothing in circles, over QUIC and
TLS (tests/integration/test_garbage.py), so it is enough to look for some seldom. By default, the
objects of each new connection would be visited several times.

A busy session allocates and frees buffers of 128 KB all the time. By default glibc maps each buffer, or
returns the end of its heap to the system at once. Then the kernel must clear and map the pages again, which
takes a tenth of the CPU time of a bulk transfer. So some free memory is kept until the transfers have ended.

Python returns the memory of its objects in pieces of 1 MB, and only when nothing in a piece is in use. A
crowd of connections leaves a few objects in each. glibc returns single pages of 4 KB. So the objects of a
crowd are in glibc's heap.
"""

import ctypes
import gc
import os
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
COLLECT = 10_000, 0, 60
"""New objects after which the collector looks at them, and how many such looks cause one at older objects.

10,000 objects, which 75 connections have, take about half a millisecond. Each second look has those of the
one before as well, and no look has more until 1.2 million are new. The process waits for it."""
KEEP = 64 << 20
"""Free bytes at the end of the heap that are kept. What twenty bulk transfers hold until it is acknowledged
rises and falls by more than 16 MB all the time."""
MAP = 4 << 20
"""The size from which an allocation gets its own mapping, bytes."""

_RAW, _DOMAINS = 0, (1, 2)  # PyMemAllocatorDomain in pymem.h: the C library's, and Python's two


class _Allocator(ctypes.Structure):
    """PyMemAllocatorEx in pymem.h. The last four are functions."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free"))


_TRIED = ((3, 11), (3, 12), (3, 13))
"""Versions of CPython in which objects of either allocator are known to be freed by its own."""

_python: dict[int, _Allocator] = {}  # Python's own allocators while the C library's make new objects
_miscounted = False  # Python has freed objects that it did not count


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


def crowd(here: bool) -> None:
    """Have new objects in the C library's heap, or in Python's own again.

    Python's functions that free and resize stay in place: they pass on what is not theirs, since all objects
    of more than 512 bytes are the C library's anyway. Nothing changes in Pythons that are not `_TRIED`, where
    they have other allocators (PYTHONMALLOC, builds without the GIL), or if the library can't return pages.
    """
    global _miscounted
    if here == bool(_python) or sys.implementation.name != "cpython" or sys.version_info[:2] not in _TRIED:
        return
    try:
        get, put = ctypes.pythonapi.PyMem_GetAllocator, ctypes.pythonapi.PyMem_SetAllocator
        _ = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    raw = _Allocator()
    get(_RAW, ctypes.byref(raw))
    while _python:
        domain, own = _python.popitem()
        put(domain, ctypes.byref(own))
    for domain in _DOMAINS if here else ():
        own = _Allocator()
        get(domain, ctypes.byref(own))
        if "t" in sys.abiflags or own.context or raw.context or own.malloc == raw.malloc:
            return
        put(domain, ctypes.byref(_Allocator(None, raw.malloc, raw.calloc, own.realloc, own.free)))
        _python[domain], _miscounted = own, True


def blocks() -> int:
    """How many blocks of Python's allocator are in use; 0 after a crowd, since it is not known then."""
    return 0 if _miscounted else sys.getallocatedblocks()


def collect() -> None:
    """Free what only lies in the way of `give_back`. It is for when few objects are left: each takes time.

    A full collection also frees what Python keeps for new objects, 2000 tuples of each length. And Python
    remembers the names of 4096 attributes, most of which C code made anew for each look-up. Both lie all over
    the memory of the peak, and hold it up.
    """
    gc.collect()
    ctypes.pythonapi.PyType_ClearCache()


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
