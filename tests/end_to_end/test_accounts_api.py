"""The JSON API for accounts of a running server: what its OpenAPI file says, it does."""

import json
import os
from pathlib import Path
from urllib.parse import quote

import hypothesis
import pytest

from lane.link import Link
from lane.testing.harness import until
from tests.support.admin import SECRET, fetch, guarded
from tests.support.origin import Origin
from tests.support.processes import breaks, connected, echoes, start_client, start_server, works

ROOT = Path(__file__).parents[2]
EXAMPLES = int(os.environ.get("LANE_API_EXAMPLES", "15"))


@pytest.fixture(scope="module")
def origin():
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    port, options = guarded(folder)
    with start_server(folder, *options) as server:
        yield port
        assert "Traceback" not in server.stderr


def ask(port, method, path, body=None):
    status, text = fetch(port, path, None if body is None else json.dumps(body).encode(), method=method)
    return status, json.loads(text) if text.startswith(("{", "[")) else text


PATHS = json.loads((ROOT / "lane" / "admin" / "openapi.json").read_text())["paths"]
OPERATIONS = [
    operation["operationId"]
    for path in PATHS.values()
    for method, operation in path.items()
    if method != "parameters"
]


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_is_one_that_the_file_describes(name, mode, api):
    """Whatever is asked: what the file allows (positive), and what it forbids (negative)."""
    # Slow to import, and each worker of pytest-xdist imports all tests.
    import schemathesis
    from schemathesis.checks import CHECKS

    schema = schemathesis.openapi.from_path(ROOT / "lane" / "admin" / "openapi.json")
    (operation,) = (
        found.ok()
        for found in schema.get_all_operations()
        if found.ok().definition.raw["operationId"] == name
    )
    generation = schemathesis.GenerationMode(mode)
    asked = []

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[*hypothesis.HealthCheck],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=generation))
    def check(case):
        asked.append(case)
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{api}",
            headers={"Authorization": SECRET},
            excluded_checks=[CHECKS.get_one("positive_data_acceptance"), CHECKS.get_one("ignored_auth")],
        )  # a text that cannot be printed is refused; another test looks at the secret

    try:
        check()
    except hypothesis.errors.Unsatisfiable:  # nothing is wrong for an operation without input
        assert not asked


@pytest.mark.parametrize("name", ["alice", "b b", "Ünï/код", "%", "a?b#c", "\U0001f600" * 64])
def test_a_user_from_its_first_day_to_its_last(name, api):
    path = f"/api/users/{quote(name, safe='')}"
    status, made = ask(api, "POST", "/api/users", {"name": name, "quota": 10**9, "note": "new"})
    assert status == 201
    assert (made["name"], made["quota"], made["note"], made["disabled"]) == (name, 10**9, "new", False)
    assert Link.parse(made["link"]).key
    assert ask(api, "POST", "/api/users", {"name": name})[0] == 409
    assert name in [one["name"] for one in ask(api, "GET", "/api/users")[1]]
    assert ask(api, "GET", path)[1]["days"] == {}
    status, changed = ask(api, "PATCH", path, {"quota": None, "disabled": True, "rate": 1_000_000})
    assert (status, changed["quota"], changed["disabled"], changed["rate"]) == (200, None, True, 1_000_000)
    assert ask(api, "GET", f"{path}/link")[1]["link"] == made["link"]
    assert ask(api, "POST", f"{path}/rotate-key", {})[1]["link"] != made["link"]
    assert ask(api, "POST", f"{path}/kick", {})[0] == 204
    assert ask(api, "DELETE", path)[0] == 204
    for method in ("GET", "DELETE"):
        assert ask(api, method, path) == (404, "there is no such user\n")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "expected a JSON object with name"),
        ({}, "expected a JSON object with name"),
        ({"name": ""}, "name: expected string of at most 64 characters"),
        ({"name": "x" * 65}, "name: expected string of at most 64 characters"),
        ({"name": "a\nb"}, "the name of a user has 1 to 64 printable characters"),
        ({"name": "x", "quota": True}, "quota: expected integer or null, 1 to 1152921504606846976"),
        ({"name": "x", "quota": 1.5}, "quota: expected integer or null"),
        ({"name": "x", "expires": 1e300}, "expires: expected number or null"),
        ({"name": "x", "key": "y"}, 'unknown: "key"'),
        ({"name": "x", "disabled": None}, "disabled: expected boolean"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(body, says, api):
    status, text = ask(api, "POST", "/api/users", body)
    assert (status, says in text, text.count("\n")) == (400, True, 1)


def test_changes_count_at_once(origin, api, tmp_path):
    _, made = ask(api, "POST", "/api/users", {"name": "carol"})
    with start_client(tmp_path, "quic", made["link"], "--fast-open", "off") as client:
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock)
            assert ask(api, "GET", "/api/users/carol")[1]["online"] == 1
            assert ask(api, "PATCH", "/api/users/carol", {"disabled": True})[0] == 200
            breaks(sock)
        until(lambda: "your account is disabled" in client.stderr or not works(client, origin))
        assert ask(api, "PATCH", "/api/users/carol", {"disabled": False})[0] == 200
        until(lambda: works(client, origin))


def test_it_needs_the_secret(api):
    for path in ("/api/users", "/api/openapi.json", "/api/users/x"):
        assert fetch(api, path, secret=None)[0] == 401
