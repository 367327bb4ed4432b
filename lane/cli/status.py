"""`lane status`: it asks a running server what it has."""

import json
from typing import Any

from lane.asking import ask
from lane.config import StatusConfig
from lane.meeting import server_path
from lane.shown import NONE, clock, dicts, number, text


def run(config: StatusConfig, plugins: object) -> int:
    """Print the server's answer. Raises Unreachable if no server answers."""
    for snapshot in ask(server_path(config.state_dir), who="server", named=True):
        print(json.dumps(snapshot) if config.json else report(snapshot))
    return 0


def report(snapshot: dict[str, Any]) -> str:
    """The answer for people: the server, then its workers if it has several."""
    lines = [f"lane {text(snapshot.get('version'))}, {_of(snapshot)}"]
    if leaving := number(snapshot.get("leaving")):
        lines[0] += f", and {leaving:.0f} sessions still in the process before it"
    workers = dicts(snapshot.get("workers"))
    if len(workers) > 1:
        lines += [f"  worker {at}: {_of(one)}" for at, one in enumerate(workers, 1)]
    return "\n".join(lines)


def _of(one: dict[str, Any]) -> str:
    counts = f"{_count(one, 'sessions')} sessions, {_count(one, 'carriers')} carriers"
    found = f"process {_count(one, 'pid')} since {clock(one.get('since'))}: {counts}"
    return f"{found}, {_count(one, 'restarts')} restarts" if number(one.get("restarts")) else found


def _count(one: dict[str, Any], name: str) -> str:
    found = number(one.get(name))
    return NONE if found is None else f"{found:.0f}"
