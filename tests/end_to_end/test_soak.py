"""Half a minute of bench/soak.py: that everything works beside everything else, and nothing grows wildly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"


@pytest.mark.long
@pytest.mark.timeout(400)
def test_half_a_minute_of_everything(tmp_path):
    command = [sys.executable, SOAK, "--minutes", "0.5", "--json", tmp_path / "soak.json"]
    # Traced, all of it would be several times as slow, and what is late is lost.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing grows, and nothing failed" in done.stdout
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["samples"].keys() == {"server", "client", "mover"}
    names = {trend["name"] for trend in result["trends"]}
    assert names >= {"rss", "descriptors", "greenlets", "threads", "sessions", "carriers"}
    assert {what for _, what in result["events"]} >= {"blackout", "SIGHUP", "a client comes", "TCP is lost"}
    assert result["moves"] >= 2
