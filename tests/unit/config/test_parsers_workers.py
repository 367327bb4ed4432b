"""The number of workers, and what they share out."""

import os

import pytest

from lane.config import parsers
from lane.errors import UsageError


def test_the_number_of_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3, 5}, raising=False)
    assert parsers.workers("auto") == 3
    assert parsers.workers("1") == 1
    assert parsers.workers("128") == 128
    monkeypatch.delattr(os, "sched_getaffinity")
    assert parsers.workers("auto") == 1
    for text in ("0", "129", "-1", "many", ""):
        with pytest.raises(UsageError):
            parsers.workers(text)


def test_what_they_share_out():
    assert [parsers.spread(text) for text in ("address", "connection")] == ["address", "connection"]
    with pytest.raises(UsageError):
        parsers.spread("user")
