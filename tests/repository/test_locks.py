"""The lock files: they name what setup.cfg allows, all of it, and by hashes only."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PRIVATE = {"aioquic", "cryptography", "gevent", "pyopenssl"}
"""Packages of which lane uses private names: their next major version may be another one."""


def required(extra=None):
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    text = parser["options.extras_require"][extra] if extra else parser["options"]["install_requires"]
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [Requirement(line) for line in lines]


def locked(name):
    """From the names of packages to their versions, and whether each has a hash."""
    entries = re.split(r"\n(?=\S)", (ROOT / "locks" / f"{name}.txt").read_text())
    found = {}
    for entry in entries:
        if match := re.match(r"([\w.-]+)==([^\s;]+)", entry):
            found[match[1].lower()] = match[2], "--hash=sha256:" in entry
    return found


@pytest.mark.parametrize("name", ["run", "test"])
def test_all_that_is_required_is_locked_by_hash(name):
    versions = locked(name)
    needed = required() + (required("test") if name == "test" else [])
    for requirement in needed:
        version, _ = versions[requirement.name.lower()]
        assert requirement.specifier.contains(version), f"make lock: {requirement} is not {version}"
    assert all(hashed for _, hashed in versions.values())


def test_tests_run_with_what_users_run():
    tested = locked("test")
    assert all(tested[name] == entry for name, entry in locked("run").items())


def test_what_has_private_names_in_use_has_an_upper_bound():
    bounded = {one.name.lower() for one in required() if any(part.operator == "<" for part in one.specifier)}
    assert bounded >= PRIVATE
