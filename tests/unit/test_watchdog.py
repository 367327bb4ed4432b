"""What keeps the event loop is named: the function, and the plugin that it belongs to."""

import re
import subprocess
import sys
import time

import gevent
import pytest

from lane.watchdog import Watchdog


@pytest.fixture
def watched():
    """Begins to watch, with a short limit."""
    made = []

    def watch(owner=lambda _: None, limit=0.2):
        made.append(Watchdog(owner, limit))
        gevent.sleep(0.001)  # the loop has gone around

    yield watch
    for watchdog in made:
        watchdog.close()


def block_until(told, seconds=60):
    """Keep the event loop, and the CPU, until the log has it."""
    end = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < end, "nobody noticed"


def sleep_until(told, seconds=60):
    """The same in system calls."""
    end = time.monotonic() + seconds
    while not told():
        time.sleep(0.05)
        assert time.monotonic() < end, "nobody noticed"


@pytest.mark.parametrize("block", [block_until, sleep_until])
def test_what_blocks_is_named_with_its_callers(watched, caplog, block):
    watched()
    records = caplog.records  # to look that up takes functions, too

    def culprit():
        block(lambda: records)

    gevent.spawn(culprit).get(timeout=90)
    text = caplog.records[0].getMessage()
    assert re.match(r"the event loop has stood still for \d+\.\d s, in ", text)
    assert f"{block.__name__} (" in text
    assert "culprit (" in text
    assert __file__ in text
    assert "plugin" not in text


def test_the_plugin_is_named(watched, caplog):
    watched(lambda path: "slow" if path == __file__ else None)
    gevent.spawn(lambda: sleep_until(lambda: caplog.records)).get(timeout=90)
    assert caplog.records[0].getMessage().endswith(", of the plugin slow")


def test_the_end_of_it_is_told_and_the_same_function_once_a_minute(watched, caplog):
    watched()
    over = lambda: any("goes on" in record.getMessage() for record in caplog.records)  # noqa: E731
    for _ in range(3):
        caplog.clear()
        began = time.monotonic()
        sleep_until(lambda: time.monotonic() - began > 1)  # noqa: B023
        with gevent.Timeout(60):
            while not over():
                gevent.sleep(0.01)
    assert [record.getMessage()[:20] for record in caplog.records] == ["the event loop goes "]


def test_code_in_c_that_lets_nobody_look_is_noticed_afterwards(watched, caplog):
    watched()
    size = 10
    with gevent.Timeout(60):
        while not caplog.records:
            10 ** (size * 10_000) % 7  # one operation of the interpreter
            size *= 2
            gevent.sleep(0.001)
    assert "stood still" in caplog.records[0].getMessage()


def test_a_loop_that_waits_is_not_blocked(watched, caplog):
    watched(limit=0.05)
    gevent.sleep(1)
    assert not caplog.records


def test_it_ends_with_its_thread_and_keeps_no_process_alive():
    program = "from lane.watchdog import Watchdog; Watchdog(limit=0.05)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
