import json

import pytest

from lane.admin.accounts import Accounts, checked
from lane.admin.everyone import Everyone
from lane.admin.state import State
from lane.admin.web import Refusal, Request
from lane.errors import ConfigError
from lane.net.questions import Questions
from lane.net.siblings import Siblings
from lane.users.store import Store


@pytest.fixture
def api(tmp_path):
    tmp_path.chmod(0o700)
    store = Store.create(tmp_path / "accounts.db")
    api = Accounts(store, lambda account: f"link of {account.name}", Everyone(State, Questions(Siblings())))
    yield api
    api.close()


def ask(api, method, path, body=None, *parameters):
    request = Request(method, path, body=json.dumps(body).encode(), parameters=parameters)
    response = api.routes[method, path].handle(request)
    return response.status, json.loads(response.body or b"null")


def test_a_user_is_added_and_removed(api):
    status, made = ask(api, "POST", "/api/users", {"name": "alice", "quota": 5})
    assert (status, made["link"], made["quota"]) == (201, "link of alice", 5)
    assert [one["name"] for one in ask(api, "GET", "/api/users")[1]] == ["alice"]
    assert ask(api, "DELETE", "/api/users/*", None, "alice") == (204, None)
    assert ask(api, "GET", "/api/users") == (200, [])


def test_a_place_that_fails_is_an_error_of_the_server_in_one_line(api, monkeypatch):
    def full(*arguments):
        raise ConfigError("accounts.db: database or disk is full")

    monkeypatch.setattr(api._book, "records", full)
    with pytest.raises(Refusal, match="disk is full") as caught:
        ask(api, "GET", "/api/users")
    assert caught.value.response.status == 503


def test_a_user_who_is_removed_meanwhile_is_not_there(api, monkeypatch):
    ask(api, "POST", "/api/users", {"name": "alice"})
    (record,) = api._book.records(0.0)
    monkeypatch.setattr(api._book, "records", lambda *_: [record])
    api._book.remove("alice")
    for method, path in (("DELETE", "/api/users/*"), ("POST", "/api/users/*/kick")):
        with pytest.raises(Refusal) as caught:
            ask(api, method, path, None, "alice")
        assert caught.value.response.status == 404


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[" * 100_000, b"NaN", b'{"quota": NaN}', b"\xff", b"[]", b"1"]
)
def test_what_is_no_object_of_values(body):
    with pytest.raises(Refusal) as caught:
        checked(body, "Changes")
    assert caught.value.response.status == 400


def test_values_within_their_limits():
    assert checked(b'{"quota": 1, "expires": 1.5, "note": "", "rate": null}', "Changes")["expires"] == 1.5
