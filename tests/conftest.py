"""What all tests share: nothing of the machine's configuration reaches them, and hypothesis's profiles."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import hypothesis
import pytest

from lane import supervisor
from lane.log import Throttle
from lane.net.path_memory import PATHS
from tests.support.clock import FakeClock
from tests.support.virtual_time import VirtualTime, virtual_time

BUSY = [hypothesis.HealthCheck.too_slow]  # that would be a test of the machine
hypothesis.settings.register_profile(
    "default", max_examples=50, deadline=None, derandomize=True, suppress_health_check=BUSY
)
hypothesis.settings.register_profile("fuzz", max_examples=5000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


UNTRACED = ("end_to_end", "fuzz", "repository")
"""Folders of tests that run without the coverage tracer, whatever their marks."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whole folders, and begin with what takes long."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in UNTRACED:
            item.add_marker("bulk")
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No configuration, state or variable of whoever runs the tests: in this process and in children."""
    home = tmp_path_factory.mktemp("home")
    (home / "run").mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("LANE_") and not n.startswith("LANE_TEST_")]:
            patch.delenv(name)
        for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
            patch.delenv(name, raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        patch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
        yield


@pytest.fixture(autouse=True)
def throttled(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock by which like failures are logged once a minute: each test begins anew."""
    clock = FakeClock()
    monkeypatch.setattr(supervisor, "_throttle", Throttle(clock=clock))
    return clock


@pytest.fixture(autouse=True)
def _hangs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ends a test that waits for ever, a moment before pytest's `--timeout` would.

    That one raises in whatever greenlet runs, mostly gevent's hub, where nobody sees it.
    """
    seconds = 0.9 * request.config.getoption("timeout")
    with gevent.Timeout(seconds or None, AssertionError("the test hangs")):
        yield


@pytest.fixture
def clock() -> Iterator[VirtualTime]:
    """The test lives on a VirtualTime: its time-outs end in no time, never early on a busy machine."""
    with virtual_time() as clock:
        yield clock


@pytest.fixture
def run_lane(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m lane ARGUMENTS` to its end, in an empty folder; `env` adds variables."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lane", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@pytest.fixture(autouse=True)
def unknown_paths() -> Iterator[None]:
    """What a test learns of paths is forgotten behind it."""
    yield
    PATHS.clear()
