"""The wheel: what it brings, and lane from it without the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lane.cli import reference

ROOT = Path(__file__).parents[2]
SOURCES = (
    "lane",
    "plugins",
    "conf",
    "share",
    "setup.cfg",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


def pip(*arguments):
    command = [sys.executable, "-m", "pip", *map(str, arguments), "-q", "--no-deps"]
    subprocess.run(command, check=True, timeout=250)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since the build leaves folders behind."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(ROOT / name, copy)
    pip("wheel", "--no-build-isolation", "-w", copy / "dist", copy)
    (found,) = (copy / "dist").glob("lane-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--target", folder, wheel)
    return folder


def run(installed, *arguments):
    """Run the installed lane, with the libraries of this environment."""
    return subprocess.run(
        [sys.executable, "-m", "lane", *arguments],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_wheel_has_units_configuration_completions_and_the_manual(wheel):
    names = {name.partition(".data/data/")[2] for name in zipfile.ZipFile(wheel).namelist()}
    generated = {str(path.relative_to(ROOT)) for path in reference.files() if "share" in path.parts}
    conf = {f"share/lane/{path.name}" for path in (ROOT / "conf").iterdir()}
    assert names - {""} == generated | conf


def test_lane_runs_from_it_and_finds_its_files(installed):
    assert run(installed, "--version").stdout.startswith("lane ")
    said = run(installed, "--print-completion", "bash")
    assert said.stdout == (ROOT / "share/bash-completion/completions/lane").read_text(), said.stderr
    assert run(installed, "plugins").returncode == 0
    kept = {str(path.relative_to(ROOT)) for path in (ROOT / "lane/admin/assets").iterdir()}
    assert all((installed / name).exists() for name in kept)
