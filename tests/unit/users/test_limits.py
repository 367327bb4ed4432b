"""Limits as people write them."""

from datetime import datetime
from time import time

import pytest

from lane.errors import UsageError
from lane.users import limits
from lane.users.limits import NONE

GB = 1 << 30


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (limits.parse_quota, "100GB/month", 100 * GB),
        (limits.parse_quota, "1.5 GB / Month", GB * 3 // 2),
        (limits.parse_quota, "100GB", 100 * GB),
        (limits.parse_rate, "50mbit", 6_250_000),
        (limits.parse_rate, "50 Mbit/s", 6_250_000),
        (limits.parse_rate, "1.5gbit", 187_500_000),
        (limits.parse_rate, "8kbit", 1000),
        (limits.parse_rate, "10Mbps", 1_250_000),
        (limits.parse_most, "3", 3),
        (limits.parse_expiry, "2026-12-31", datetime(2026, 12, 31).timestamp()),
        (limits.parse_expiry, "2026-12-31 18:00", datetime(2026, 12, 31, 18).timestamp()),
        (limits.parse_expiry, "1970-01-02T00:00:00Z", 86400.0),
    ],
)
def test_a_limit_is_read(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize("text", ["30d", "720h", "43200m", "2592000s", " 30 D "])
def test_an_account_may_end_some_time_from_now(text):
    assert abs(limits.parse_expiry(text) - (time() + 30 * 86400)) < 60


@pytest.mark.parametrize("text", ["none", "None", "never", "unlimited"])
@pytest.mark.parametrize(
    "parse", [limits.parse_quota, limits.parse_rate, limits.parse_most, limits.parse_expiry]
)
def test_a_limit_can_be_lifted(parse, text):
    assert parse(text) is NONE


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((limits.parse_quota, text) for text in ("", "0", "100GB/day", "-1GB", "100 gigs", "9999999TB")),
        *((limits.parse_rate, text) for text in ("", "50", "50MB", "0mbit", "1bit", "-5mbit", "99999gbit")),
        *((limits.parse_most, text) for text in ("", "0", "-1", "1.5", "two", "9999999")),
        *(
            (limits.parse_expiry, text)
            for text in ("", "30", "d", "tomorrow", "2026-13-01", "9999999y", "-1d")
        ),
    ],
)
def test_what_is_no_limit_is_refused(parse, text):
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (limits.size_text(0), "0B"),
        (limits.size_text(1536), "1.5KB"),
        (limits.size_text(100 * GB), "100GB"),
        (limits.size_text(GB * 1024), "1TB"),
        (limits.rate_text(6_250_000), "50mbit"),
        (limits.rate_text(187_500_000), "1.5gbit"),
        (limits.rate_text(1000), "8kbit"),
        (limits.time_text(None), "-"),
        (limits.time_text(datetime(2026, 1, 31, 5, 6, 7).timestamp()), "2026-01-31 05:06"),
    ],
)
def test_limits_are_shown_as_they_are_written(text, shown):
    assert text == shown
