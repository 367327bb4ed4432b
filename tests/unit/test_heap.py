"""What the C library is told about memory: it must never be in the way."""

import ctypes
import subprocess
import sys

import pytest

from lane import heap


@pytest.mark.parametrize("library", [OSError("no such library"), object()], ids=["no library", "no mallopt"])
def test_other_c_libraries_are_left_alone(monkeypatch, library):
    def load(name):
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    heap.keep_buffers()


def test_buffers_that_were_let_go_are_used_again():
    """Taking and giving back 128 KB over and over costs no pages that the kernel has to make."""
    script = """
import resource, sys
from lane.heap import keep_buffers
if sys.argv[1] == "yes":
    keep_buffers()
def churn():
    for _ in range(300):
        held = [bytes(131072 + number) for number in range(8)]
        del held
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

    def faults(kept):
        command = [sys.executable, "-c", script, kept]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    kept, not_kept = faults("yes"), faults("no")
    if not_kept < 1000:
        pytest.skip("this C library keeps buffers by itself")
    assert kept < not_kept / 10
