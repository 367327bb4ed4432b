"""A client's snapshot (see `lane.control`) as text for users.

The client may have another version. So a missing value, or one of another type, is shown as unknown.
Characters that are not printable never reach the terminal.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

from lane.text import printable

NONE = "-"
MAX_CHANGES = 10
_HEADINGS = ("lane", "state", "round trip", "delay", "loss", "goodput", "CPU/byte")

Change = tuple[str, str, str]
"""The time, the old and new transport, and the reason."""


def whole(snapshot: dict[str, Any]) -> str:
    """The whole snapshot, as lines without the last line end."""
    lines = [_outage(snapshot)] if _is_out(snapshot) else [*_failure(snapshot), _headline(snapshot)]
    sessions = _number(snapshot.get("sessions"))
    if sessions is not None:
        lines.append(f"{sessions:.0f} session{'' if sessions == 1 else 's'} at the moment")
    lanes = _dicts(snapshot.get("lanes"))
    if lanes:
        lines += ["", *_table([_HEADINGS, *map(_row, lanes)])]
        if reasons := [
            f"{_text(lane.get('name'))}: {_text(lane['why'])}" for lane in lanes if lane.get("why")
        ]:
            lines += ["", *reasons]
    if found := changes(snapshot)[-MAX_CHANGES:]:
        lines += ["", "last changes", *_table(found[::-1])]
    return "\n".join(lines)


def brief(snapshot: dict[str, Any]) -> str:
    """The measurements of the lane in use, on one line."""
    if _is_out(snapshot):
        return f"{_clock(snapshot.get('time'))}  {_outage(snapshot)}"
    choice = snapshot.get("choice")
    lane = next((lane for lane in _dicts(snapshot.get("lanes")) if lane.get("name") == choice), {})
    return "  ".join(
        (
            _clock(snapshot.get("time")),
            _text(choice),
            _rate(lane.get("goodput")),
            f"loss {_percent(lane.get('loss'))}",
            f"round trip {_milliseconds(lane.get('rtt'))}",
        )
    )


def changes(snapshot: dict[str, Any], before: dict[str, Any] | None = None) -> list[Change]:
    """The changes, oldest first, without those in the snapshot `before`."""
    known = _dicts(before.get("changes")) if before else []
    found = [change for change in _dicts(snapshot.get("changes")) if change not in known]
    found.sort(key=lambda change: _number(change.get("time")) or 0)
    return [
        (
            _clock(change.get("time")),
            f"{_text(change.get('from'))} -> {_text(change.get('to'))}",
            _text(change.get("reason")),
        )
        for change in found
    ]


def _headline(snapshot: dict[str, Any]) -> str:
    reason = _text(snapshot.get("reason"))
    if not snapshot.get("choice"):
        return f"carried by nothing: {reason}"
    now, since = _number(snapshot.get("time")), _number(snapshot.get("since"))
    when = f" since {_clock(since)}" if since is not None else ""
    age = f" ({_age(now - since)})" if now is not None and since is not None else ""
    return f"carried by {_text(snapshot['choice'])}{when}{age}: {reason}"


def _is_out(snapshot: dict[str, Any]) -> bool:
    return isinstance(snapshot.get("outage"), dict)


def _outage(snapshot: dict[str, Any]) -> str:
    """The line for an outage: no lane works."""
    now, since = _number(snapshot.get("time")), _number(snapshot["outage"].get("since"))
    age = f" ({_age(now - since)})" if now is not None and since is not None else ""
    return f"not reached since {_clock(since)}{age}: {_text(snapshot['outage'].get('reason'))}"


def _failure(snapshot: dict[str, Any]) -> list[str]:
    """An extra line, since `choice` may look healthy until something is tried again."""
    failure = snapshot.get("failure")
    if not isinstance(failure, dict):
        return []
    now, then = _number(snapshot.get("time")), _number(failure.get("time"))
    age = f" {_age(now - then)} ago" if now is not None and then is not None else ""
    return [f"the server was not reached{age}: {_text(failure.get('reason'))}"]


def _row(lane: dict[str, Any]) -> Sequence[str]:
    cost = _number(lane.get("cost"))
    return (
        _text(lane.get("name")),
        _state(lane),
        _milliseconds(lane.get("rtt")),
        _milliseconds(lane.get("delay")),
        _percent(lane.get("loss")),
        _rate(lane.get("goodput")),
        NONE if cost is None else f"{cost:.0f}x" if cost >= 10 else f"{cost:.2g}x",
    )


def _state(lane: dict[str, Any]) -> str:
    seconds = _number(lane.get("silent"))
    if lane.get("alive") is False or (lane.get("alive") is None and seconds and seconds >= 1):
        return "silent" if seconds is None else f"silent {_age(seconds)}"
    if lane.get("carries") is True:
        return "carries"
    return "answers" if lane.get("alive") is True else NONE


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _clock(value: Any) -> str:
    """The local time of day, with the date unless it is today."""
    seconds = _number(value)
    try:
        then = time.localtime(seconds) if seconds is not None else None
    except (OverflowError, ValueError, OSError):  # not a valid time
        then = None
    if then is None:
        return NONE
    today = time.localtime()[:3] == then[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", then)


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _milliseconds(value: Any) -> str:
    seconds = _number(value)
    if seconds is None:
        return NONE
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def _percent(value: Any) -> str:
    fraction = _number(value)
    return NONE if fraction is None else f"{fraction * 100:.1f} %"


def _rate(value: Any) -> str:
    """Bytes a second as Mbit/s."""
    rate = _number(value)
    return NONE if rate is None else f"{rate * 8 / 1e6:.1f} Mbit/s"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        return NONE
    return printable(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
