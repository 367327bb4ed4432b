"""What a process says that it holds."""

import gc
import logging
import re
import weakref

from greenlet import getcurrent, greenlet

from lane import census


class Table:
    def __init__(self, **sizes):
        self.sizes = sizes
        census.register(self)

    def census(self):
        return self.sizes


def test_tables_of_one_name_are_added_up():
    tables = [Table(apples=2, pears=1), Table(apples=3)]
    found = census.take()
    assert (found["apples"], found["pears"]) == (5, 1)
    del tables


def test_being_counted_keeps_nothing_alive():
    table = Table(plums=1)
    gone = weakref.ref(table)
    del table
    assert gone() is None
    assert "plums" not in census.take()


def test_greenlets_that_live_are_counted():
    gc.collect()  # those of tests before
    before = census.take()["greenlets"]
    live = [greenlet(getcurrent().switch) for _ in range(10)]  # not gevent's: nothing else runs meanwhile
    assert census.take()["greenlets"] == before
    for one in live:
        one.switch()
    assert census.take()["greenlets"] == before + 10
    for one in live:
        one.throw()
    assert census.take()["greenlets"] == before


def test_descriptors_and_threads_are_counted(tmp_path):
    with (tmp_path / "file").open("w"):
        found = census.take()
    assert census.take()["descriptors"] == found["descriptors"] - 1
    assert found["threads"] >= 1


def test_the_heap_is_what_is_in_use_and_not_what_it_took():
    before = census.take()["heap"]
    large = [bytes(1 << 16) for _ in range(200)]
    assert 12 << 20 < census.take()["heap"] - before < 20 << 20
    large.clear()
    assert census.take()["heap"] - before < 4 << 20


def test_where_the_c_library_tells_nothing_the_rest_is_told(monkeypatch):
    monkeypatch.setattr(census.ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(census, "_mallinfo", census._mallinfo.__wrapped__)
    assert census.take()["heap"] == 0


def test_an_object_that_objects_to_being_looked_at_is_counted_too():
    table = Table(figs=1)
    keep = [weakref.proxy(table)]
    del table  # isinstance(keep[0], ...) raises from now on
    assert census.take()["objects"] > 0
    del keep


def test_where_there_is_no_procfs_the_rest_is_told(monkeypatch):
    monkeypatch.setattr(census, "_entries", lambda folder, old=census._entries: old("/nowhere"))
    assert census.take()["descriptors"] == 0


def test_the_line_in_the_log(caplog):
    table = Table(dates=7)
    with caplog.at_level(logging.INFO, "lane.census"):
        census.tell()
    (line,) = caplog.messages
    assert re.fullmatch(r"greenlets=\d+ threads=\d+ descriptors=\d+ objects=\d+( \w+=\d+)*", line)
    assert "dates=7" in line
    del table
