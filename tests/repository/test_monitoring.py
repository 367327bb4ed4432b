"""The dashboard and the alert rules ask for metrics and labels that there are."""

import json
import re
from pathlib import Path

import pytest

from lane.admin.families import CLIENT, SERVER

CONF = Path(__file__).parents[2] / "conf"
KNOWN_ELSEWHERE = {"job", "instance", "le"}
"""Labels that Prometheus adds."""
FUNCTIONS = {
    "and", "by", "histogram_quantile", "increase", "label_values", "on", "rate", "sum", "topk", "up",
}  # fmt: skip


def samples():
    """The names of all samples, and the labels of each."""
    found = {}
    for name, family in {**SERVER, **CLIENT}.items():
        ends = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[family.kind]
        found |= {name + end: {*family.labels} for end in ends}
    return found


def dashboard():
    board = json.loads((CONF / "grafana.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"], ""


def rules():
    """The name, the expression and the texts of each rule, by the file's own layout."""
    for block in re.split(r"(?m)^      - alert: ", (CONF / "alerts.yml").read_text())[1:]:
        name, _, rest = block.partition("\n")
        expression = re.search(r"(?s) expr: (?:>-\n)?(.*?)\n        (?:for|labels):", rest)[1]
        yield name, " ".join(expression.split()), rest


QUERIES = [*dashboard(), *rules()]


def unknown(expression, legend=""):
    """The words of a query that mean nothing."""
    known = samples()
    names = set(re.findall(r"\blane_\w+", expression))
    labels = {label for name in names for label in known.get(name, ())} | KNOWN_ELSEWHERE
    plain = re.sub(r'"[^"]*"|\[[^]]*\]', "", expression)
    words = set(re.findall(r"[a-z_]\w*", plain)) | set(
        re.findall(r"\{\{ *(?:\$labels\.)?(\w+) *\}\}", legend)
    )
    return {word for word in words if word not in known.keys() | labels | FUNCTIONS}


@pytest.mark.parametrize(("title", "expression", "legend"), QUERIES, ids=[one[0] for one in QUERIES])
def test_a_query_asks_for_what_there_is(title, expression, legend):
    assert unknown(expression, legend) == set()
    assert all(expression.count(one) == expression.count(other) for one, other in ("()", "{}", "[]"))
    if "_total" in expression or "_bucket" in expression:
        assert re.search(r"rate\(|increase\(", expression), "a counter says something by its rate"


def test_the_check_itself():
    assert unknown("sum by (user) (rate(lane_bytes_total[5m]))") == {"user"}
    assert unknown("lane_nothing{job='x'}") >= {"lane_nothing"}
    assert unknown("lane_sessions", "{{worker}}") == {"worker"}


def test_the_dashboard_shows_every_metric_of_a_server():
    shown = {name for _, expression, _ in dashboard() for name in re.findall(r"\blane_\w+", expression)}
    missing = {
        name for name in SERVER if not any(one.startswith(name) for one in shown)
    } - {"lane_start_time_seconds"}  # fmt: skip
    assert missing == set()


def test_panels_do_not_overlap():
    taken = set()
    for panel in json.loads((CONF / "grafana.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
