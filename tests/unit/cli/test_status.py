"""What a server says of itself, as text: also one of another version."""

from lane.cli.status import report

WORKER = {"pid": 7, "since": 1_700_000_000.0, "sessions": 2, "carriers": 1, "restarts": 0}


def test_a_server_of_several_processes():
    lines = report(
        {"version": "0.1.0", **WORKER, "workers": [WORKER, {**WORKER, "pid": 8, "restarts": 1}]}
    ).split("\n")
    assert lines[0].startswith("lane 0.1.0, process 7 since 2023-11-1")
    assert lines[0].endswith(": 2 sessions, 1 carriers")
    assert lines[1].startswith("  worker 1: process 7 since ")
    assert lines[2].endswith(", 1 restarts")


def test_another_version_may_say_something_else():
    assert report({}) == "lane -, process - since -: - sessions, - carriers"
    strange = report({"version": "\x1b[31m9", "since": "now", "workers": [1, {}, {"restarts": 1e308}]})
    assert strange.startswith("lane ?[31m9, ")
    assert strange.replace("\n", "").isprintable()
