"""Commands of the system that tests of packages run: they fetch and build, which takes long."""

import subprocess

PATIENCE = 900.0
"""Seconds for one command, on a busy machine with a slow network."""


def run(*command: object, check: bool = True, **how: object) -> subprocess.CompletedProcess[str]:
    """Run a command, and show what it said if it fails."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE, **how)
    assert not check or result.returncode == 0, f"{words}: {result.stdout[-3000:]}{result.stderr[-3000:]}"
    return result
