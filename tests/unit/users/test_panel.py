"""A panel is asked once for each user, and may fail."""

import json

import gevent
import pytest
from gevent.pywsgi import WSGIServer

from lane.errors import Closed, UsageError
from lane.testing.harness import until
from lane.users import panel as module
from lane.users.http_post import Endpoint, post
from lane.users.panel import Panel

ANNA, BOB = b"a" * 32, b"b" * 32


class Backend:
    """A panel's side, as Hysteria's documentation has it. `users`: names by `auth`."""

    def __init__(self):
        self.users = {ANNA.hex(): "anna"}
        self.asked = []
        self.answer = None
        self.status = "200 OK"
        self.hold = gevent.event.Event()
        self.hold.set()
        self.server = WSGIServer(("127.0.0.1", 0), self.serve, log=None)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/auth?of=lane"

    def serve(self, environ, start):
        request = json.load(environ["wsgi.input"])
        self.asked.append((environ["REQUEST_METHOD"], environ["QUERY_STRING"], request))
        self.last = environ
        self.hold.wait()
        start(self.status, [("Content-Type", "application/json")])
        name = self.users.get(request["auth"], "")
        return [self.answer or json.dumps({"ok": bool(name), "id": name}).encode()]


@pytest.fixture
def backend():
    backend = Backend()
    yield backend
    backend.hold.set()
    backend.server.stop()


@pytest.fixture
def panel(backend):
    panel = Panel(Endpoint.parse(backend.url))
    yield panel
    panel.close()


def test_a_user_is_asked_for_once_as_hysteria_does(backend, panel):
    account = panel.find(ANNA, bytes(32), "192.0.2.7:50123")
    assert account.name == "anna"
    assert panel.find(ANNA, bytes(32), "192.0.2.8:1") is account is panel.get("anna")
    request = {"addr": "192.0.2.7:50123", "auth": ANNA.hex(), "tx": 0}
    assert backend.asked == [("POST", "of=lane", request)]
    assert backend.last["CONTENT_TYPE"] == "application/json"


def test_a_stranger_is_asked_for_once_too(backend, panel, monkeypatch):
    assert panel.find(BOB, bytes(32), "") is None
    backend.users[BOB.hex()] = "bob"
    assert panel.find(BOB, bytes(32), "") is None
    assert len(backend.asked) == 1
    monkeypatch.setattr(module, "BAD_FOR", 0.0)
    assert panel.find(BOB, bytes(32), "").name == "bob"


def test_many_who_come_at_once_are_one_question(backend, panel):
    backend.hold.clear()
    finding = [gevent.spawn(panel.find, ANNA, bytes(32), "") for _ in range(20)]
    until(lambda: backend.asked)
    backend.hold.set()
    gevent.joinall(finding)
    assert {one.value.name for one in finding} == {"anna"}
    assert len(backend.asked) == 1
    assert panel.census() == {"panel_good": 1, "panel_bad": 0, "panel_asked": 0}


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("500 Oh", None),
        ("404 Not Found", None),
        ("200 OK", b"hello"),
        ("200 OK", b"[]"),
        ("200 OK", b'{"ok": "yes", "id": "anna"}'),
        ("200 OK", b'{"ok": true}'),
        ("200 OK", b'{"ok": true, "id": 5}'),
        ("200 OK", b'{"ok": true, "id": "a\\nb"}'),
        ("200 OK", b"[" * 100000),
        ("200 OK", b'"' + b"x" * 100000),
    ],
)
def test_what_is_no_answer_is_no_refusal(backend, panel, status, answer):
    backend.status, backend.answer = status, answer
    with pytest.raises(Closed):
        panel.find(ANNA, bytes(32), "")
    backend.status, backend.answer = "200 OK", None
    assert panel.find(ANNA, bytes(32), "").name == "anna"


def test_who_is_known_stays_known_while_the_panel_is_down(backend, panel, monkeypatch, caplog):
    assert panel.find(ANNA, bytes(32), "")
    backend.server.stop()
    monkeypatch.setattr(module, "GOOD_FOR", 0.0)
    assert panel.find(ANNA, bytes(32), "").name == "anna"
    assert "users stay as they are (1 times)" in caplog.text
    with pytest.raises(Closed, match="can't be asked"):
        panel.find(BOB, bytes(32), "")


def test_a_panel_that_hangs_costs_its_time_only(backend, panel, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    backend.hold.clear()
    with pytest.raises(Closed, match="in time"):
        panel.find(ANNA, bytes(32), "")


def test_who_is_there_is_asked_for_again(backend, panel, monkeypatch):
    monkeypatch.setattr(module, "GOOD_FOR", 0.05)
    monkeypatch.setattr(module, "LOOK", 0.02)
    told = []
    panel.find(ANNA, bytes(32), "")
    panel.start(told.append, lambda name: name == "anna")
    until(lambda: len(backend.asked) > 2)
    assert told == []
    backend.users.clear()
    until(lambda: told)
    assert [dict(changes.accounts) for changes in told] == [{"anna": None}]
    assert panel.get("anna") is None


def test_nobody_is_known_for_ever_without_an_answer(backend, panel, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.02)
    told = []
    panel.find(ANNA, bytes(32), "")
    panel.start(told.append, lambda name: True)
    monkeypatch.setattr(module, "STALE_FOR", 0.05)
    until(lambda: told)
    assert panel.get("anna") is None


def test_answers_are_bounded(backend, panel, monkeypatch):
    monkeypatch.setattr(module, "MOST_GOOD", 2)
    monkeypatch.setattr(module, "MOST_BAD", 2)
    for number in range(5):
        backend.users[bytes([number] * 32).hex()] = f"user {number}"
        assert panel.find(bytes([number] * 32), bytes(32), "")
        assert panel.find(bytes([100 + number] * 32), bytes(32), "") is None
    assert panel.census() == {"panel_good": 2, "panel_bad": 2, "panel_asked": 0}
    assert panel.get("user 0") is None
    assert panel.get("user 4")


def test_a_user_may_have_a_password_for_the_panel(backend):
    url = backend.url.replace("http://", "http://me:s%20ecret@")
    endpoint = Endpoint.parse(url)
    assert post(endpoint, {"addr": "", "auth": ANNA.hex(), "tx": 0}, 10.0) == {"ok": True, "id": "anna"}
    assert backend.last["HTTP_AUTHORIZATION"] == "Basic bWU6cyBlY3JldA=="
    assert "ecret" not in endpoint.shown + repr(endpoint)


@pytest.mark.parametrize("url", ["", "http://", "ftp://h/", "http://h:99999/", "http://h/a b", "http://h/#x"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UsageError, match="malformed URL"):
        Endpoint.parse(url)
