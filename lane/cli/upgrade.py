"""`lane upgrade`: a new process, of what is installed now, takes the place of a running server.

It sends the server SIGUSR2 and watches what its control socket says, which both processes share.
"""

import json
import os
import signal
import time
from typing import Any

from lane.asking import ask
from lane.config import StatusConfig
from lane.errors import Fatal, Unreachable
from lane.handover.notes import FAILED, SETTLE
from lane.meeting import server_path

START_TIME = 90.0
"""Seconds until the new process must have taken over."""
LOOK = 0.1
"""Seconds between two looks."""


def run(config: StatusConfig, plugins: object) -> int:
    """Upgrade the server. Raises Unreachable without one, and Fatal if it goes on as it was."""
    before = _snapshot(config)
    pid = before["pid"]
    try:
        os.kill(pid, signal.SIGUSR2)
    except PermissionError:
        raise Fatal(f"process {pid} is another user's: run lane upgrade as that user, or as root") from None
    except (ProcessLookupError, AttributeError):
        raise Fatal(f"there is no process {pid} here: run lane upgrade where the server runs") from None
    until = time.monotonic() + START_TIME
    after = before
    while after["pid"] == pid:
        _, _, how = after["upgrade"].partition(" ")
        if how.startswith(FAILED) and after["upgrade"] != before["upgrade"]:
            raise Fatal(f"no upgrade, process {pid} goes on: {how.removeprefix(FAILED)}")
        if time.monotonic() > until:
            raise Fatal(f"no upgrade within {START_TIME:g} s; the server's log may have the reason")
        time.sleep(LOOK)
        after = _snapshot(config)
    until = time.monotonic() + SETTLE
    while time.monotonic() < until:  # if it fails at once, the old one goes on
        time.sleep(LOOK)
        if (now := _snapshot(config))["pid"] != after["pid"]:
            raise Fatal(f"no upgrade: process {after['pid']} has ended, and process {now['pid']} goes on")
    if config.json:
        print(json.dumps({"before": _of(before), "after": _of(after)}))
    else:
        print(f"{_text(after)} has taken the place of {_text(before)}")
    return 0


def _snapshot(config: StatusConfig) -> dict[str, Any]:
    (snapshot,) = ask(server_path(config.state_dir), who="server", named=True)
    if "upgrade" not in snapshot:
        raise Unreachable("the running server is too old for that: restart it")
    return snapshot


def _of(snapshot: dict[str, Any]) -> dict[str, Any]:
    return {name: snapshot[name] for name in ("pid", "version", "since")}


def _text(snapshot: dict[str, Any]) -> str:
    return f"process {snapshot['pid']} (lane {snapshot['version']})"
