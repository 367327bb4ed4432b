"""A minute of bench/soak.py: that everything works beside everything else, and nothing grows wildly.

Of the folders of tests this is the first one, so that it runs beside the others and not after them.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"


@pytest.mark.timeout(400)
def test_a_minute_of_everything(tmp_path):
    command = [sys.executable, SOAK, "--minutes", "1", "--json", tmp_path / "soak.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing grows, and nothing failed" in done.stdout
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["samples"].keys() == {"server", "client", "mover"}
    names = {trend["name"] for trend in result["trends"]}
    assert names >= {"rss", "descriptors", "greenlets", "threads", "sessions", "carriers"}
    assert {what for _, what in result["events"]} >= {"blackout", "SIGHUP", "a client comes", "TCP is lost"}
    assert result["moves"] >= 2
