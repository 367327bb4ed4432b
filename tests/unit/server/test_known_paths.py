"""Paths that a server knows are known after its restart, and a file that is no good costs nothing else."""

import json

import pytest

from lane.net.path_memory import PathMemory
from lane.server import known_paths


def test_a_restart_makes_them_older(tmp_path, monkeypatch):
    memory, after = PathMemory(lambda: 100.0), PathMemory(lambda: 7.0)
    memory.to("192.0.2.1").learn(1e6, 0.1, 0.01)
    monkeypatch.setattr(known_paths.time, "time", lambda: 1000.0)
    known_paths.save(tmp_path, memory)
    monkeypatch.setattr(known_paths.time, "time", lambda: 1060.0)
    known_paths.load(tmp_path, after)
    assert after.dump() == [("192.0.2.1", 1e6, 0.1, 0.01, 60.0)]
    assert (tmp_path / known_paths.FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "{}", '{"time": "x", "paths": []}', '{"time": 1, "paths": [[1]]}',
        '{"time": 1, "paths": [["net", "fast", 1, 0, 0]]}', '{"time": 1, "paths": 5}', "[" * 100_000,
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_file_that_is_no_good_is_ignored(tmp_path, text):
    (tmp_path / known_paths.FILE).write_text(text)
    memory = PathMemory()
    known_paths.load(tmp_path, memory)
    assert not memory.dump()


def test_a_file_that_others_may_write_or_that_is_too_large_is_ignored(tmp_path, monkeypatch):
    memory = PathMemory()
    memory.to("192.0.2.1").learn(1e6, 0.1)
    known_paths.save(tmp_path, memory)
    file = tmp_path / known_paths.FILE
    file.chmod(0o622)
    again = PathMemory()
    known_paths.load(tmp_path, again)
    assert not again.dump()
    file.chmod(0o600)
    monkeypatch.setattr(known_paths, "MOST_BYTES", 10)
    known_paths.load(tmp_path, again)
    assert not again.dump()


def test_the_largest_file_can_be_read(tmp_path):
    memory, again = PathMemory(), PathMemory()
    for n in range(5000):
        memory.to(f"2001:db8:{n:x}:ffff::1").learn(123456789.123456789, 0.123456789012345, 0.0123456789012345)
    known_paths.save(tmp_path, memory)
    known_paths.load(tmp_path, again)
    assert len(json.loads((tmp_path / known_paths.FILE).read_bytes())["paths"]) == len(again.dump()) == 4096


def test_each_worker_has_its_file_and_all_read_all(tmp_path):
    for worker in range(3):
        memory = PathMemory(lambda: 100.0)
        memory.to("192.0.2.1").learn(1e6 * (worker + 1), 0.1)
        memory.to(f"198.51.100.{worker}").learn(1e6, 0.1)
        known_paths.save(tmp_path, memory, worker)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["paths", "paths.1", "paths.2"]
    again = PathMemory()
    known_paths.load(tmp_path, again)
    assert again.census() == {"paths": 4}


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path):
    known_paths.save(tmp_path / "none", PathMemory())
