"""A process that has no descriptors left, for a while."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


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
