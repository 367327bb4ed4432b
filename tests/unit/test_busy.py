"""How busy a thread is."""

import time

from lane.busy import Busy


def test_a_thread_is_busy_while_it_works_and_not_while_it_waits():
    busy = Busy()
    time.sleep(0.05)
    assert busy.take() < 0.5
    begin = time.thread_time()
    while time.thread_time() - begin < 0.05:
        pass
    assert busy.take() > 0.8  # the time in which others had the CPU counts


def test_without_the_figures_of_linux_cpu_time_counts(monkeypatch):
    busy = Busy()
    busy._file = "/proc/missing"
    busy.take()
    begin = time.thread_time()
    while time.thread_time() - begin < 0.02:
        pass
    assert 0.0 < busy.take() <= 1.0
