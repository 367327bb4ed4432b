"""Tests of packages for distributions: they fetch, build and install whole systems.

So only `make test-packages` runs them.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.system_commands import run

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "LANE_TEST_PACKAGES" not in os.environ:
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason="takes minutes, and root: make test-packages"))


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh system like this one, with nothing but what every Debian has."""
    if os.geteuid():
        pytest.skip("needs root, for chroot")
    if shutil.which("debootstrap") is None:
        pytest.skip("needs debootstrap: apt-get install debootstrap")
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    if release["ID"] != "debian":
        pytest.skip("the package is for the Debian that builds it, and this is another system")
    root = tmp_path_factory.mktemp("debian")
    made = run("debootstrap", "--variant=minbase", release["VERSION_CODENAME"], root, check=False)
    if made.returncode:
        pytest.skip(f"debootstrap can't fetch Debian: {made.stdout[-300:]}{made.stderr[-300:]}")
    return root


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has of the checkout, and what it does not ignore."""
    copy = tmp_path_factory.mktemp("sources")
    names = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    for name in names:
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy
