"""How the C library's allocator is to treat memory that sessions have just let go of.

A busy session takes and gives back buffers of 128 KB all the time. By default glibc maps each anew or gives
the end of its heap back at once, and the kernel has to clear and map the pages again: a tenth of the CPU of
a bulk transfer. So a little is kept.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEEP = 16 << 20
"""Bytes at the end of the heap that are not given back to the system."""
MAP = 4 << 20
"""Bytes from which an allocation gets a mapping of its own."""


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
