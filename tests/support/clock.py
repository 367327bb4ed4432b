"""A clock for tests in which time is what they say."""

from types import ModuleType, SimpleNamespace
from typing import Any

import gevent
import pytest


class FakeClock:
    """A clock that stands still unless somebody moves `now`, seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def give_gevent(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **names: Any) -> None:
    """Have `module` alone use other functions of gevent: whoever else runs would spin without pauses."""
    monkeypatch.setattr(module, "gevent", SimpleNamespace(**{**vars(gevent), **names}))
