"""What is asked of the collector and of the C library: it must never be in the way."""

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


def test_what_is_loaded_is_left_out_of_collections_and_what_comes_later_is_not():
    script = """
import asyncio, email.message, gc, weakref
from lane.heap import settle
class Knot: pass
before = len(gc.get_objects())
settle()
after = len(gc.get_objects())
knot = Knot()
knot.itself = knot
gone = weakref.ref(knot)
del knot
gc.collect()
print(after < before / 10, gone() is None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the collector looks at old objects in small steps")
def test_a_crowd_that_opens_is_looked_at_in_small_pieces():
    script = """
import gc
from lane.heap import COLLECT, settle
settle()
gc.collect()  # the looks are counted from here on
young, *_ = gc.get_threshold()
before = [each["collections"] for each in gc.get_stats()]
crowd, most = [], 0
for _ in range(20 * young):
    crowd.append([])
    most = max(most, sum(gc.get_count()[:1]) + young * gc.get_count()[1])
print([each["collections"] - b for each, b in zip(gc.get_stats(), before)], most <= 2 * young + 1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("]") == ["[10, 10, 0", " True\n"]


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


def test_a_crowd_leaves_little_memory_although_some_of_its_objects_stay():
    script = """
import sys
from lane import heap
old = [[number] for number in range(10_000)]
heap.crowd(sys.argv[1] == "yes")
for each in old:
    each.extend(each * 9)  # Python's memory, that the library's replaces
crowd = [(number, str(number), [number]) for number in range(200_000)]
peak = heap.resident()
left = crowd[::500]
del crowd, old[::2]
heap.crowd(False)
for number, (_, text, each) in enumerate(left):
    assert text == str(number * 500)
    each.extend(each * 99)
heap.collect()
heap.give_back()
print(heap.resident() / max(peak, 1))
"""

    def left(crowd):
        command = [sys.executable, "-c", script, crowd]
        return float(subprocess.run(command, capture_output=True, check=True).stdout)

    marked, not_marked = left("yes"), left("no")
    if not hasattr(ctypes.CDLL(None), "malloc_trim") or not not_marked:
        pytest.skip("this C library returns no pages, or the system tells no sizes")
    assert marked < not_marked / 2
