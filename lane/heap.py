"""What is asked of Python's garbage collector and of the C library's allocator, so that they hold up nobody.

A full collection stops the process while it looks at each object. What was there before the first connection
lives as long as the process, and need not be looked at again.

A busy session takes and gives back buffers of 128 KB all the time. By default glibc maps each anew or gives
the end of its heap back at once, and the kernel has to clear and map the pages again: a tenth of the CPU of
a bulk transfer. So a little is kept.
"""

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEEP = 16 << 20
"""Bytes at the end of the heap that are not given back to the system."""
MAP = 4 << 20
"""Bytes from which an allocation gets a mapping of its own."""


def settle() -> None:
    """Leave what is loaded out of all collections to come: call it once, before anything runs."""
    gc.collect()
    gc.freeze()


def keep_buffers() -> None:
    """Tell glibc; other C libraries have nothing to be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_TRIM_THRESHOLD, KEEP)
    mallopt(_M_MMAP_THRESHOLD, MAP)


def give_back() -> None:
    """Give all free memory back to the system, after a peak; it takes some milliseconds for each 100 MB."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
