import os

import pytest

from lane.net.shelf import Shelf
from tests.support.workers import on_linux

pytestmark = on_linux


@pytest.fixture
def shelf():
    shelf = Shelf(2)
    yield shelf
    shelf.close()


def test_the_last_word_counts_and_has_any_length(shelf):
    assert shelf.get(0) is None
    for data in (b"one", b"", b"x" * 5_000_000, b"two"):
        shelf.put(0, data)
        assert shelf.get(0) == data
    assert shelf.get(1) is None


def test_another_process_reads_it_after_its_death(shelf):
    if not (pid := os.fork()):
        shelf.put(1, b"last words")
        os._exit(0)
    os.waitpid(pid, 0)
    assert shelf.get(1) == b"last words"


def test_a_death_in_the_middle_of_a_word_leaves_the_one_before(shelf):
    shelf.put(0, b"whole")
    torn = shelf._files[0][shelf._newest[0] % 2]
    os.pwrite(torn, b"to", 0)
    assert shelf.get(0) == b"whole"


def test_a_word_that_changes_while_it_is_read_is_not_taken(shelf):
    shelf.put(0, b"whole")
    os.pwrite(shelf._files[0][0], b"!", 5)
    assert shelf.get(0) is None
