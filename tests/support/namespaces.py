"""Python in a network namespace of its own, where tests may change what they like."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def in_own_network(script, *arguments):
    """What `script` prints there. It begins without an address, even for loopback, and must end well.

    The test is skipped where there can be no such namespace.
    """
    lacking = [tool for tool in ("ip", "unshare") if not shutil.which(tool)]
    if os.geteuid():
        lacking.append("root")
    if lacking:
        pytest.skip(f"network namespaces need {' and '.join(lacking)}")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    if "unshare failed" in done.stderr:
        pytest.skip(f"there can be no network namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout
