"""Where each worker of a server leaves what it has counted, for the others and for its successor.

These are files in memory (memfd_create(2)), which the parent makes before it forks. They have no size that
could be too small, and they outlive a worker that is killed at any moment: each has two, and writes the one
that nobody reads.
"""

import mmap
import os
import tempfile
import zlib
from contextlib import suppress

_TRIES = 3
"""A reader may meet a file that is written twice meanwhile."""


def memory_file(name: str) -> int:
    """The descriptor of a file without a path; in memory, where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Shelf:
    """The files of `workers` workers, all empty at first."""

    def __init__(self, workers: int) -> None:
        self._files = [[memory_file(f"lane-{worker}") for _ in range(2)] for worker in range(workers)]
        self._newest = memoryview(mmap.mmap(-1, workers)).cast("B")  # 0: none; else the number of a file + 1

    def put(self, worker: int, data: bytes) -> None:
        """Leave `data` of a worker. Only that worker may call this."""
        at = self._newest[worker] % 2
        file = self._files[worker][at]
        content = zlib.crc32(data).to_bytes(4) + data
        os.ftruncate(file, 0)
        os.pwrite(file, content, 0)
        self._newest[worker] = at + 1

    def get(self, worker: int) -> bytes | None:
        """What a worker has left, alive or dead; None if that is nothing."""
        for _ in range(_TRIES):
            newest = self._newest[worker]
            if not newest:
                return None
            file = self._files[worker][newest - 1]
            data = os.pread(file, os.fstat(file).st_size, 0)
            if data[:4] == zlib.crc32(data[4:]).to_bytes(4):
                return data[4:]
        return None

    def close(self) -> None:
        """Close the files. Idempotent."""
        for files in self._files:
            while files:
                with suppress(OSError):
                    os.close(files.pop())
