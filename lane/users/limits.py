"""The limits of accounts as people write and read them: `30d`, `100GB/month`, `50mbit`."""

import re
from datetime import datetime
from time import time
from typing import Final

from lane.errors import UsageError
from lane.values import parse_count, parse_size, within

NONE: Final = object()
"""What the word `none` gives: the limit is lifted."""
_WORDS = ("none", "never", "unlimited")
_DAY = 86400
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": _DAY, "w": 7 * _DAY, "y": 365 * _DAY}
_BITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_MOST_TIME = 253402300799  # the last second of the year 9999
_SIZES = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))
MOST_RATE = 125_000_000_000
"""The highest rate, bytes a second."""
_limit = within(parse_count, 1, 1_000_000, "1 to 1000000, or none")
_size = within(parse_size, 1, 1 << 60, "1 byte to 1 EB, or none")


def parse_expiry(text: str) -> object:
    """The end of an account: `30d` from now (s, m, h, d, w, y), `2026-12-31`, `2026-12-31 18:00`, or none.

    Seconds since the epoch, or NONE. A time without a zone is that of this machine. Raises UsageError.
    """
    text = text.strip()
    if text.lower() in _WORDS:
        return NONE
    if match := re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhdwy])", text.lower(), re.ASCII):
        when = time() + float(match[1]) * _SECONDS[match[2]]
    else:
        try:
            when = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            raise UsageError(
                f"malformed expiry {text!r}: expected one like 30d, 2026-12-31 or none"
            ) from None
    if not 0 <= when <= _MOST_TIME:
        raise UsageError(f"{text} is out of range: up to the year 9999")
    return float(int(when))


def parse_quota(text: str) -> object:
    """Bytes a month from `100GB/month` or `100GB` (of 1024), or NONE. Raises UsageError."""
    text = text.strip()
    if text.lower() in _WORDS:
        return NONE
    return _size(re.sub(r"\s*/\s*month$", "", text, flags=re.IGNORECASE))


def parse_rate(text: str) -> object:
    """Bytes a second from `50mbit` (kbit, mbit, gbit: of 1000), or NONE. Raises UsageError."""
    text = text.strip()
    if text.lower() in _WORDS:
        return NONE
    pattern = r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmg]?)(?:bits?|bps)(?:/s)?"
    match = re.fullmatch(pattern, text.lower(), re.ASCII)
    if not match:
        raise UsageError(f"malformed rate {text!r}: expected one like 50mbit or none")
    rate = int(float(match[1]) * _BITS[match[2]] / 8)
    if not 1000 <= rate <= MOST_RATE:
        raise UsageError(f"{text} is out of range: 8kbit to 1000gbit, or none")
    return rate


def parse_most(text: str) -> object:
    """A number of at least 1, or NONE. Raises UsageError."""
    return NONE if text.strip().lower() in _WORDS else _limit(text)


def size_text(size: int) -> str:
    """Bytes as people read them: `1.5GB`."""
    for unit, name in _SIZES:
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + name
    return f"{size}B"


def rate_text(rate: int) -> str:
    """Bytes a second as people read them: `50mbit`."""
    for unit, name in ((1e9, "gbit"), (1e6, "mbit")):
        if rate * 8 >= unit:
            return f"{rate * 8 / unit:.3f}".rstrip("0").rstrip(".") + name
    return f"{rate * 8 / 1e3:.3f}".rstrip("0").rstrip(".") + "kbit"


def time_text(when: float | None) -> str:
    """A time as people read it, in the zone of this machine; `-` for None."""
    return "-" if when is None else datetime.fromtimestamp(when).strftime("%Y-%m-%d %H:%M")
