"""`lane status`: it asks a running server what it has."""

import json
from datetime import datetime
from typing import Any

from lane.asking import ask
from lane.config import StatusConfig
from lane.meeting import server_path


def run(config: StatusConfig, plugins: object) -> int:
    """Print the server's answer. Raises Unreachable if no server answers."""
    for snapshot in ask(server_path(config.state_dir), who="server", named=True):
        print(json.dumps(snapshot) if config.json else report(snapshot))
    return 0


def report(snapshot: dict[str, Any]) -> str:
    """The answer for people: the server, then its workers if it has several."""
    lines = [f"lane {snapshot['version']}, {_of(snapshot)}"]
    if leaving := snapshot.get("leaving"):
        lines[0] += f", and {leaving} sessions still in the process before it"
    if len(snapshot["workers"]) > 1:
        lines += [f"  worker {number}: {_of(one)}" for number, one in enumerate(snapshot["workers"], 1)]
    return "\n".join(lines)


def _of(one: dict[str, Any]) -> str:
    since = datetime.fromtimestamp(one["since"]).strftime("%Y-%m-%d %H:%M:%S")
    text = f"process {one['pid']} since {since}: {one['sessions']} sessions, {one['carriers']} carriers"
    return f"{text}, {one['restarts']} restarts" if one["restarts"] else text
