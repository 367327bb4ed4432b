"""Whether the installed aioquic is one that lane knows the inside of."""

from lane.tested import is_tested, lacking
from lane_quic.internals import connection, parts  # noqa: F401  (they say what they rely on)
from lane_quic.internals.aliases import examples

TESTED = ("1.7",)
"""Versions of aioquic that the tests have run with."""


def relied_on() -> list[tuple[type, str]]:
    """Each class of aioquic with each private name of it that lane uses."""
    return [(type(example), name) for example, names in examples for name in names]


def missing() -> list[str]:
    """The names that the installed aioquic does not have, as `Class.name`."""
    return [name for example, names in examples for name in lacking(example, names)]


def is_supported() -> bool:
    """Whether the installed aioquic was tested, and has all names. If not, the log hears of it.

    The fast path is no good then: what it does in the place of aioquic may not be what aioquic does.
    """
    off = "common QUIC packets are left to it, at over twice the CPU (as --quic-fast-path off)"
    return is_tested("aioquic", TESTED, missing=missing(), otherwise=off)
