"""The descriptors of this process: which are open, and a while without any left."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def opened() -> frozenset[tuple[str, str]]:
    """The open descriptors, each with what it is of. Ask what is new: others may close some of theirs."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
    return frozenset(found)


@contextmanager
def no_descriptors(*, whatever_is_closed: bool = False) -> Iterator[None]:
    """None is left while the context lasts: unless some are closed, or even then.

    Connections of tests that were before may still linger, and close theirs now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    os.close(spare)
    most = 3 if whatever_is_closed else spare  # all below are in use
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
