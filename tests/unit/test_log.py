import contextlib
import json
import logging
import os
import re
import subprocess
import sys

import pytest

from lane import line_writer, log
from lane.errors import ConfigError
from lane.testing.harness import until
from tests.support.clock import FakeClock


def read_all(fd):
    data = b""
    while chunk := os.read(fd, 65536):
        data += chunk
    return data.decode()


@pytest.fixture
def lane_logger():
    logger = logging.getLogger("lane")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = before


def record(text):
    return logging.LogRecord("lane.test", logging.INFO, "", 0, text, None, None)


def test_lines_are_plain(tmp_path, lane_logger):
    file = tmp_path / "log"
    writer = log.setup("info", file)
    logging.getLogger("lane.server").info("a session from %s", "me")
    logging.getLogger("lane.server").debug("not this")
    writer.close()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf"{stamp} INFO lane\.server: a session from me\n", file.read_text())


def test_a_second_setup_replaces_the_first(tmp_path, lane_logger):
    log.setup("debug", tmp_path / "one")
    writer = log.setup("error", tmp_path / "two")
    lane_logger.warning("lost")
    lane_logger.error("kept")
    writer.close()
    assert (tmp_path / "one").read_text() == ""
    assert (tmp_path / "two").read_text().endswith("ERROR lane: kept\n")


def test_a_file_that_was_moved_is_left_for_a_new_one(tmp_path, lane_logger):
    file, moved = tmp_path / "log", tmp_path / "log.1"
    writer = log.setup("info", file)
    lane_logger.info("before")
    until(lambda: "before" in file.read_text())
    file.rename(moved)
    for _ in range(300):  # none of them may cost a descriptor
        log.reopen("debug", file)
    lane_logger.debug("after")
    until(lambda: "after" in file.read_text())
    assert "after" not in moved.read_text()
    held = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert (held.count(str(file)), held.count(str(moved))) == (1, 0)
    with pytest.raises(ConfigError, match="cannot write the log file"):
        log.reopen("error", tmp_path / "no" / "log")
    lane_logger.debug("still there")
    until(lambda: "still there" in file.read_text())
    log.reopen("info", None)
    until(lambda: writer.lines.fd == 2)
    writer.close()


def test_a_file_that_cannot_be_written_is_a_configuration_error(tmp_path, lane_logger):
    with pytest.raises(ConfigError, match=r"cannot write the log file .*: No such file"):
        log.setup("info", tmp_path / "no" / "log")


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_that_nobody_reads_blocks_nobody_and_the_drops_are_counted(blocking):
    reader, pipe = os.pipe()
    os.set_blocking(pipe, blocking)
    writer = log.QueuedWriter(pipe, size=16)
    total = 3000  # of 1 KB: more than any pipe holds
    for number in range(total):
        writer.handle(record(f"{number} {'x' * 1000}"))
    assert writer.lines.dropped > 0
    seen = []

    def drained():
        seen.append(os.read(reader, 65536))
        return b"messages dropped" in b"".join(seen)[-2000:]

    until(drained)
    writer.close()
    text = b"".join(seen).decode() + read_all(reader)
    os.close(reader)
    lines = text.splitlines()
    dropped = sum(int(n) for n in re.findall(r"WARNING lane\.log: (\d+) messages dropped", text))
    assert dropped == writer.lines.dropped
    assert sum("INFO" in line for line in lines) == total - dropped
    assert all(line.endswith(("x", "dropped")) for line in lines)  # none is torn


def test_closing_with_a_full_queue_and_no_reader_ends(monkeypatch):
    monkeypatch.setattr(line_writer, "FLUSH_TIME", 0.05)
    reader, pipe = os.pipe()
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    os.set_blocking(pipe, True)
    writer = log.QueuedWriter(pipe, size=4)
    for _ in range(10):
        writer.handle(record("x"))
    writer.close()
    assert writer.lines.thread.is_alive()  # stuck in its write, as the test means it to be
    read_all(reader)
    os.close(reader)
    until(lambda: not writer.lines.thread.is_alive())


def test_a_reader_that_is_gone_is_no_error():
    reader, pipe = os.pipe()
    os.close(reader)
    writer = log.QueuedWriter(pipe)
    writer.handle(record("nobody hears this"))
    writer.close()
    assert not writer.lines.thread.is_alive()


def test_a_record_that_cannot_be_formatted_costs_only_itself(monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    reader, pipe = os.pipe()
    writer = log.QueuedWriter(pipe)
    writer.handle(logging.LogRecord("lane", logging.INFO, "", 0, "%d", ("no number",), None))
    writer.handle(record("next \udc80"))
    writer.close()
    assert read_all(reader).endswith("INFO lane.test: next ?\n")
    os.close(reader)


SCRIPT = """
import logging
from lane import line_writer, log
log.setup("info")
for n in range(int({count})):
    logging.getLogger("lane").info("%d " + "y" * 1000, n)
print("done", flush=True)
"""


def start(count):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(count=count)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_what_is_queued_is_written_at_exit():
    out, err = start(50).communicate(timeout=60)
    assert out == b"done\n"
    assert len(err.splitlines()) == 50


def test_a_process_whose_standard_error_nobody_reads_goes_on_and_ends():
    process = start(5000)
    try:
        assert process.stdout.readline() == b"done\n"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("burst", [1, 3])
def test_like_messages_are_logged_a_few_at_once_and_then_one_a_period(burst):
    clock = FakeClock()
    throttle = log.Throttle(10.0, clock=clock, burst=burst)
    assert [throttle.allows("a") for _ in range(burst + 3)] == [0] * burst + [None] * 3
    assert throttle.allows("b") == 0
    clock.now += 9.9
    assert throttle.allows("a") is None
    clock.now += 0.1
    assert [throttle.allows("a") for _ in range(2)] == [4, None]
    clock.now += 1e6
    assert [throttle.allows("a") for _ in range(burst + 1)] == [1] + [0] * (burst - 1) + [None]


def test_kinds_of_messages_that_are_remembered_are_bounded():
    throttle = log.Throttle(10.0, 5, FakeClock())
    for kind in range(100):
        throttle.allows(kind)
    assert len(throttle) == 5


def test_a_process_that_forks_writes_without_a_thread(tmp_path):
    reader, writer = os.pipe()
    handler = log.DirectWriter(writer)
    record = logging.LogRecord("lane.test", logging.INFO, "", 0, "x" * 1000, None, None)
    for _ in range(1000):  # more than the pipe takes: the rest is dropped, and nobody waits
        handler.emit(record)
    assert os.read(reader, 1 << 20).count(b"\n") > 10
    handler.emit(record)
    assert b"INFO lane.test: xxx" in os.read(reader, 1 << 20)
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    handler.redirect(file)
    handler.emit(record)
    handler.close()
    assert (tmp_path / "log").read_text().endswith("x\n")
    os.close(reader)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_a_line_of_json_and_its_traceback(tmp_path, lane_logger):
    file = tmp_path / "log"
    log.setup("info", file, "json", process="worker 2")
    try:
        raise ValueError("a\nb")
    except ValueError:
        lane_logger.exception("a %s", "text\n{}")
    log.reopen("info", file, "text")
    lane_logger.info("plain")
    log.reopen("info", file, "json")
    lane_logger.info("again")
    logging.getLogger().handlers[-1].close()
    first, second, third = file.read_text().splitlines()
    values = json.loads(first)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", values.pop("time"))
    assert "ValueError: a\nb" in values.pop("exception")
    assert values == {"level": "error", "logger": "lane", "message": "a text\n{}", "process": "worker 2"}
    assert second.endswith("INFO lane: worker 2: plain")
    assert json.loads(third)["message"] == "again"
