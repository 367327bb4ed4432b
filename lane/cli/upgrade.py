"""`lane upgrade`: a new process, of what is installed now, takes the place of a running server or client.

It sends that SIGUSR2 and watches what its control socket says, which both processes share.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

from lane.asking import NotKnown, ask
from lane.config import UpgradeConfig
from lane.errors import Fatal, Unreachable, UsageError
from lane.handover.notes import FAILED, SETTLE
from lane.shown import age, number, text

START_TIME = 90.0
"""Seconds until the new process must have taken over."""
LOOK = 0.1
"""Seconds between two looks."""
TELL_TIME = 5.0
"""Seconds until a client's new process must know what stays in the old one."""


class Running(NamedTuple):
    """What is upgraded: the server or the client (`who`) that answers at `path`."""

    who: str
    path: Path

    def snapshot(self) -> dict[str, Any]:
        """What it says of itself. Raises Unreachable."""
        named = self.who == "server"
        what = "" if named else "process"
        try:
            (snapshot,) = ask(self.path, who=self.who, named=named, what=what)
        except NotKnown:
            snapshot = {}
        pid = snapshot.get("pid")
        # A number that is not above 0 would send the signal to many processes.
        if not (type(pid) is int and pid > 0 and isinstance(snapshot.get("upgrade"), str)):
            raise Unreachable(f"the running {self.who} is too old for that: restart it")
        return snapshot


def run(config: UpgradeConfig, plugins: object) -> int:
    """Upgrade the server or the client. Raises Unreachable without one, and Fatal if it goes on as it was."""
    running, before = _find(config)
    pid = before["pid"]
    try:
        os.kill(pid, signal.SIGUSR2)
    except PermissionError:
        raise Fatal(f"process {pid} is another user's: run lane upgrade as that user, or as root") from None
    except (ProcessLookupError, AttributeError):
        raise Fatal(
            f"there is no process {pid} here: run lane upgrade where the {running.who} runs"
        ) from None
    until = time.monotonic() + START_TIME
    after = before
    while after["pid"] == pid:
        _, _, how = after["upgrade"].partition(" ")
        if how.startswith(FAILED) and after["upgrade"] != before["upgrade"]:
            raise Fatal(f"no upgrade, process {pid} goes on: {how.removeprefix(FAILED)}")
        if time.monotonic() > until:
            raise Fatal(f"no upgrade within {START_TIME:g} s; the {running.who}'s log may have the reason")
        time.sleep(LOOK)
        after = running.snapshot()
    settled = time.monotonic() + SETTLE
    while time.monotonic() < settled or (_says_nothing(after) and time.monotonic() < settled + TELL_TIME):
        time.sleep(LOOK)
        if (now := running.snapshot())["pid"] != after["pid"]:  # it has failed at once
            raise Fatal(f"no upgrade: process {after['pid']} has ended, and process {now['pid']} goes on")
        after = now
    staying = number(after.get("staying")) or 0
    if config.json:
        more = {"staying": staying} if running.who == "client" else {}
        print(json.dumps({"before": _of(before), "after": _of(after), **more}))
        return 0
    print(f"{_text(after)} has taken the place of {_text(before)}")
    if staying:
        patience = age(number(after.get("patience")) or 0.0)
        until_when = f"they stay in process {pid} until they end, or for {patience}"
        print(f"connections that cannot go along: {staying:.0f} ({until_when})")
    return 0


def _find(config: UpgradeConfig) -> tuple[Running, dict[str, Any]]:
    """What is to be upgraded, and what it says. Raises Unreachable, or UsageError if both run."""
    found, failed = [], []
    for who, path in (("server", config.server), ("client", config.client)):
        if path is None:
            continue
        running = Running(who, path)
        try:
            found.append((running, running.snapshot()))
        except Unreachable as error:
            failed.append(str(error))
    if len(found) > 1:
        raise UsageError(
            f"a server and a client run here: pass --state-dir {config.server and config.server.parent}"
            f" or --control {config.client}"
        )
    if not found:
        raise Unreachable("; ".join(failed))  # no limit: it joins texts
    return found[0]


def _says_nothing(snapshot: dict[str, Any]) -> bool:
    """Whether it is a client that does not know yet what stays in the old process."""
    return "staying" in snapshot and snapshot["staying"] is None


def _of(snapshot: dict[str, Any]) -> dict[str, Any]:
    return {name: snapshot.get(name) for name in ("pid", "version", "since")}


def _text(snapshot: dict[str, Any]) -> str:
    return f"process {snapshot['pid']} (lane {text(snapshot.get('version'))})"
