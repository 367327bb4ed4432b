"""Deadlines of handshakes and dials."""

from collections.abc import Iterator
from contextlib import contextmanager

import gevent


@contextmanager
def deadline(seconds: float, late: Exception) -> Iterator[None]:
    """Raise `late` once `seconds` have passed. A timeout of the caller is raised unchanged."""
    timeout = gevent.Timeout(seconds)
    try:
        with timeout:
            yield
    except gevent.Timeout as expired:
        if expired is not timeout:
            raise
        raise late from None
