"""Checks whether the installed aioquic is a version that lane knows."""

from lane.tested import is_tested, lacking
from lane_quic.internals import connection, parts  # noqa: F401  (importing them registers their names)
from lane_quic.internals.aliases import examples

TESTED = ("1.7",)
"""Versions of aioquic that lane was tested with."""


def relied_on() -> list[tuple[type, str]]:
    """Each class of aioquic, with each of its private names that lane uses."""
    return [(type(example), name) for example, names in examples for name in names]


def missing() -> list[str]:
    """The names that the installed aioquic lacks, as `Class.name`."""
    return [name for example, names in examples for name in lacking(example, names)]


def is_supported() -> bool:
    """Whether the installed aioquic was tested and has all names. If not, a warning is logged.

    Then the fast path must be off, since it may no longer do the same as aioquic.
    """
    off = "common QUIC packets are left to it, at over twice the CPU (as --quic-fast-path off)"
    return is_tested("aioquic", TESTED, missing=missing(), otherwise=off)
