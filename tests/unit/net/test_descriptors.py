"""Whether there are descriptors left, and the one that is."""

import os

from lane.net.descriptors import Reserve
from tests.support.descriptors import no_descriptors


def test_how_many_there_are() -> None:
    reserve = Reserve()
    before = sorted(os.listdir("/proc/self/fd"))
    assert reserve.has(20)
    assert sorted(os.listdir("/proc/self/fd")) == before
    with no_descriptors():
        assert not reserve.has(1)
        with reserve:
            taken = os.dup(0)
        assert not reserve.has(0), "nor is there any in reserve"
    os.close(taken)
    with reserve:
        pass
    assert reserve.has(20)
