"""Values of a snapshot of a running lane (`lane.control`) as text for users.

The process that made it may have another version. So a missing value, or one of another type, is shown as
unknown. Characters that are not printable never reach the terminal.
"""

import math
import time
from typing import Any

from lane.text import printable

NONE = "-"


def clock(value: Any) -> str:
    """The local time of day, with the date unless it is today."""
    seconds = number(value)
    try:
        then = time.localtime(seconds) if seconds is not None else None
    except (OverflowError, ValueError, OSError):  # not a valid time
        then = None
    if then is None:
        return NONE
    today = time.localtime()[:3] == then[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", then)


def age(seconds: float) -> str:
    """A time span in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(seconds, 0):.0f} s"


def milliseconds(value: Any) -> str:
    """Seconds as ms."""
    seconds = number(value)
    if seconds is None:
        return NONE
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def percent(value: Any) -> str:
    """A fraction as %."""
    fraction = number(value)
    return NONE if fraction is None else f"{fraction * 100:.1f} %"


def rate(value: Any) -> str:
    """Bytes a second as Mbit/s."""
    found = number(value)
    return NONE if found is None else f"{found * 8 / 1e6:.1f} Mbit/s"


def amount(value: Any) -> str:
    """A number with a decimal prefix, in at most six characters: `97.5 M`."""
    found = number(value)
    if found is None:
        return NONE
    for prefix in ("", "k", "M", "G", "T", "P"):
        if abs(found) < 999.5:
            digits = 0 if abs(found) >= 99.95 or not prefix else 1
            return f"{found:.{digits}f} {prefix}".rstrip()
        found /= 1000
    return f"{found:.0e}"


def text(value: Any) -> str:
    """A text; one of another type is unknown."""
    if not isinstance(value, str) or not value:
        return NONE
    return printable(value)


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
