import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lane.admin.exposition import render
from lane.admin.families import CLIENT, SERVER
from lane.admin.state import State
from lane.server.numbers import ROUND_TRIPS, Histogram

ROOT = Path(__file__).parents[3]


def test_a_reader_gets_what_was_counted():
    state, trips = State(), Histogram(ROUND_TRIPS)
    for value in (0.0005, 0.03, 9.0):
        trips.observe(value)
    state.count("lane_bytes", {("quic", "up"): 2**53, ("tls", "down"): 1})
    state.gauge("lane_user_sessions", 3, 'a "name"\n\\{}')
    state.histogram("lane_round_trip_seconds", {("quic",): trips})
    found = {one.name: one for one in text_string_to_metric_families(render(state, SERVER).decode())}
    assert set(found) == set(SERVER)
    assert {one.type for one in found.values()} == {"counter", "gauge", "histogram"}
    assert found["lane_bytes"].samples[0].value == 2**53
    assert found["lane_user_sessions"].samples[0].labels == {"user": 'a "name"\n\\{}'}
    buckets = {
        one.labels["le"]: one.value
        for one in found["lane_round_trip_seconds"].samples
        if one.name.endswith("_bucket")
    }
    assert (buckets["0.001"], buckets["0.05"], buckets["2.0"], buckets["+Inf"]) == (1, 2, 2, 3)


@pytest.mark.parametrize("families", [SERVER, CLIENT])
def test_names_follow_the_conventions(families):
    for name, family in families.items():
        assert re.fullmatch(r"lane(_[a-z]+)+", name)
        assert not name.endswith("_total")
        assert bool(family.bounds) == (family.kind == "histogram")


def test_the_document_has_them_all():
    text = (ROOT / "docs" / "METRICS.md").read_text()
    rows = re.findall(r"(?m)^\| `(lane_\w+)(?:\{([\w,]+)\})?` \| (\w+) \|", text)
    shown = {name: (kind, tuple(labels.split(",")) if labels else ()) for name, labels, kind in rows}
    wanted = {
        name + "_total" * (family.kind == "counter"): (family.kind, family.labels)
        for name, family in {**SERVER, **CLIENT}.items()
    }
    assert shown == wanted
