"""Tests are where one looks for them: a file of tests/unit is named after the module that it tests."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests" / "unit"
PACKAGES = {"lane_quic": "plugins", "lane_tls": "plugins", "bench": "."}
"""Folders of tests/unit that are not rooms of `lane`: where they are."""


def modules(folder):
    """The names that tests of `folder`, relative to tests/unit, may begin with."""
    root = ROOT / PACKAGES.get(folder.parts[0], "lane") if folder.parts else ROOT / "lane"
    files = {file.stem for file in (root / folder).glob("*.py")}
    assert files, f"tests/unit/{folder} mirrors nothing"
    return files - {"__init__"} | {folder.name}


@pytest.mark.parametrize("name", sorted(str(file.relative_to(UNIT)) for file in UNIT.rglob("test_*.py")))
def test_a_test_file_is_named_after_its_module(name):
    file = Path(name)
    words = file.stem.removeprefix("test_").split("_")
    beginnings = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
    assert beginnings & modules(file.parent)


def test_nothing_is_imported_from_test_modules():
    wrong = [
        f"{file.relative_to(ROOT)}: {line}"
        for file in (ROOT / "tests").rglob("*.py")
        for line in file.read_text().splitlines()
        if line.startswith(("from test_", "import test_", "from tests")) and "tests.support" not in line
    ]
    assert not wrong
