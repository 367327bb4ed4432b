"""A client's snapshot (see `lane.control`) as text for users."""

from collections.abc import Sequence
from typing import Any

from lane.shown import NONE, age, clock, dicts, milliseconds, number, percent, rate, text

MAX_CHANGES = 10
_HEADINGS = ("lane", "state", "round trip", "delay", "loss", "goodput", "CPU/byte")

Change = tuple[str, str, str]
"""The time, the old and new transport, and the reason."""


def whole(snapshot: dict[str, Any]) -> str:
    """The whole snapshot, as lines without the last line end."""
    lines = [_outage(snapshot)] if _is_out(snapshot) else [*_failure(snapshot), _headline(snapshot)]
    sessions = number(snapshot.get("sessions"))
    if sessions is not None:
        lines.append(f"{sessions:.0f} session{'' if sessions == 1 else 's'} at the moment")
    lanes = dicts(snapshot.get("lanes"))
    if lanes:
        lines += ["", *_table([_HEADINGS, *map(_row, lanes)])]
        if reasons := [f"{text(lane.get('name'))}: {text(lane['why'])}" for lane in lanes if lane.get("why")]:
            lines += ["", *reasons]
    if found := changes(snapshot)[-MAX_CHANGES:]:
        lines += ["", "last changes", *_table(found[::-1])]
    return "\n".join(lines)


def brief(snapshot: dict[str, Any]) -> str:
    """The measurements of the lane in use, on one line."""
    if _is_out(snapshot):
        return f"{clock(snapshot.get('time'))}  {_outage(snapshot)}"
    choice = snapshot.get("choice")
    lane = next((lane for lane in dicts(snapshot.get("lanes")) if lane.get("name") == choice), {})
    return "  ".join(
        (
            clock(snapshot.get("time")),
            text(choice),
            rate(lane.get("goodput")),
            f"loss {percent(lane.get('loss'))}",
            f"round trip {milliseconds(lane.get('rtt'))}",
        )
    )


def changes(snapshot: dict[str, Any], before: dict[str, Any] | None = None) -> list[Change]:
    """The changes, oldest first, without those in the snapshot `before`."""
    known = dicts(before.get("changes")) if before else []
    found = [change for change in dicts(snapshot.get("changes")) if change not in known]
    found.sort(key=lambda change: number(change.get("time")) or 0)
    return [
        (
            clock(change.get("time")),
            f"{text(change.get('from'))} -> {text(change.get('to'))}",
            text(change.get("reason")),
        )
        for change in found
    ]


def _headline(snapshot: dict[str, Any]) -> str:
    reason = text(snapshot.get("reason"))
    if not snapshot.get("choice"):
        return f"carried by nothing: {reason}"
    now, since = number(snapshot.get("time")), number(snapshot.get("since"))
    when = f" since {clock(since)}" if since is not None else ""
    span = f" ({age(now - since)})" if now is not None and since is not None else ""
    return f"carried by {text(snapshot['choice'])}{when}{span}: {reason}"


def _is_out(snapshot: dict[str, Any]) -> bool:
    return isinstance(snapshot.get("outage"), dict)


def _outage(snapshot: dict[str, Any]) -> str:
    """The line for an outage: no lane works."""
    now, since = number(snapshot.get("time")), number(snapshot["outage"].get("since"))
    span = f" ({age(now - since)})" if now is not None and since is not None else ""
    return f"not reached since {clock(since)}{span}: {text(snapshot['outage'].get('reason'))}"


def _failure(snapshot: dict[str, Any]) -> list[str]:
    """An extra line, since `choice` may look healthy until something is tried again."""
    failure = snapshot.get("failure")
    if not isinstance(failure, dict):
        return []
    now, then = number(snapshot.get("time")), number(failure.get("time"))
    span = f" {age(now - then)} ago" if now is not None and then is not None else ""
    return [f"the server was not reached{span}: {text(failure.get('reason'))}"]


def _row(lane: dict[str, Any]) -> Sequence[str]:
    cost = number(lane.get("cost"))
    return (
        text(lane.get("name")),
        _state(lane),
        milliseconds(lane.get("rtt")),
        milliseconds(lane.get("delay")),
        percent(lane.get("loss")),
        rate(lane.get("goodput")),
        NONE if cost is None else f"{cost:.0f}x" if cost >= 10 else f"{cost:.2g}x",
    )


def _state(lane: dict[str, Any]) -> str:
    seconds = number(lane.get("silent"))
    if lane.get("alive") is False or (lane.get("alive") is None and seconds and seconds >= 1):
        return "silent" if seconds is None else f"silent {age(seconds)}"
    if lane.get("carries") is True:
        return "carries"
    return "answers" if lane.get("alive") is True else NONE


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
