"""The view of real processes: what their admin ports and their control sockets tell."""

import json

import pytest

from lane.asking import NotKnown, ask
from lane.meeting import server_path
from lane.testing.harness import until
from tests.support.admin import fetch, guarded
from tests.support.origin import MB, Origin
from tests.support.processes import connected, echoes, read_exactly, start_client, start_server
from tests.support.workers import everywhere, on_linux


@pytest.fixture(scope="module")
def origin():
    with Origin() as origin:
        yield origin


def view(port, since=0):
    status, body = fetch(port, f"/api/view?since={since}")
    assert status == 200, body
    return json.loads(body)


def test_a_client_and_its_server_see_the_same_download(origin, tmp_path):
    at, server_options = guarded(tmp_path / "s")
    near, client_options = guarded(tmp_path / "c")
    with (
        start_server(tmp_path / "server", *server_options) as server,
        start_client(tmp_path / "client", "auto", server.link, *client_options) as client,
        connected(client.address, origin.endless) as sock,
    ):

        def moving():
            read_exactly(sock, 4 * MB)
            found = [view(port) for port in (at, near)]
            told = [one for one in found if one["sessions"] and one["sessions"][0]["down_rate"] > 0]
            return len(told) == 2 and all(any(history(one)) for one in found) and found

        def history(one):
            return one["history"]["lanes"][one["sessions"][0]["transport"]]["goodput"]

        there, here = until(moving, server.describe)
        for told, role in ((there, "server"), (here, "client")):
            assert (told["role"], told["session_count"]) == (role, 1)
            assert told["sessions"][0]["target"] == f"127.0.0.1:{origin.endless}"
            assert told["process"]["memory"] > MB
        assert here["sessions"][0]["user"] is None
        assert there["sessions"][0]["user"] == "default"
        (user,) = there["users"]
        assert (user["name"], user["online"], user["sessions"]) == ("default", True, 1)
        assert user["down"] >= 4 * MB
        assert [one["pid"] for one in there["workers"]] == [server.process.pid]
        assert view(near, here["now"] + 3600)["history"]["times"] == []
        assert fetch(at, "/api/view?since=x")[0] == 400
        assert fetch(at, "/api/view", secret=None)[0] == fetch(near, "/api/view", secret=None)[0] == 401


def test_a_follower_gets_the_past_once(origin, tmp_path):
    with start_server(tmp_path / "server") as server:
        path = server_path(tmp_path / "server" / "state")
        first = until(
            lambda: (found := next(ask(path, who="server", what="view")))["history"]["times"] and found,
            server.describe,
        )
        follow = ask(path, follow=True, who="server", what="view")
        views = [next(follow) for _ in range(3)]
        assert set(first["history"]["times"]) <= set(views[0]["history"]["times"])
        later = [second for one in views[1:] for second in one["history"]["times"]]
        assert later
        assert not set(later) & set(views[0]["history"]["times"])
        with pytest.raises(NotKnown, match="of a version of lane that can't be asked that"):
            next(ask(path, who="server", what="nothing"))


@on_linux
def test_any_worker_tells_the_view_of_all(origin, tmp_path):
    port, options = guarded(tmp_path)
    server, links = everywhere(tmp_path, *options)
    with (
        server,
        start_client(tmp_path / "near", "quic", links[0]) as near,
        start_client(tmp_path / "far", "tls", links[1]) as far,
        connected(near.address, origin.echo) as one,
        connected(far.address, origin.echo) as other,
    ):
        path = server_path(tmp_path / "state")
        for _ in range(4):  # whichever worker answers
            assert echoes(one)
            assert echoes(other)
            for told in (view(port), next(ask(path, who="server", what="view"))):
                assert told["session_count"] == 2
                assert {row["transport"] for row in told["sessions"]} == {"quic", "tls"}
                assert len({row["id"] for row in told["sessions"]}) == 2
                assert [(lane["name"], lane["sessions"]) for lane in told["lanes"]] == [
                    ("quic", 1),
                    ("tls", 1),
                ]
                (user,) = told["users"]
                assert (user["sessions"], user["online"]) == (2, True)
                assert [worker["sessions"] for worker in told["workers"]] == [1, 1]
