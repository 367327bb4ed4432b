"""A panel that knows Hysteria's traffic API: the requests of its documentation, and what it reads then.

https://v2.hysteria.network/docs/advanced/Traffic-Stats-API
"""

import json
import re
from datetime import datetime

import pytest

from lane.testing.harness import until
from tests.support.admin import fetch, fetch_json, guarded
from tests.support.origin import MB, Origin
from tests.support.processes import (
    TRANSPORTS,
    breaks,
    connected,
    curl,
    echoes,
    read_exactly,
    running_pair,
    start_client,
    works,
)
from tests.support.workers import everywhere, on_linux


@pytest.fixture(scope="module")
def origin():
    with Origin() as origin:
        yield origin


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_a_user_moved_counts_once_and_while_it_moves(transport, origin, tmp_path):
    port, options = guarded(tmp_path)
    with running_pair(tmp_path, transport, options) as (_, client):
        assert fetch_json(port, "/traffic") == {}
        with connected(client.address, origin.web) as sock:
            sock.sendall(f"GET /0/{20 * MB} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            read_exactly(sock, MB)
            first = fetch_json(port, "/traffic?clear=1")
            assert set(first) == {"default"}
            assert set(first["default"]) == {"tx", "rx"}
            assert first["default"]["rx"] >= MB
            read_exactly(sock, 19 * MB)
        until(lambda: fetch_json(port, "/online") == {"default": 1})
        rest = fetch_json(port, "/traffic?clear=true")
        assert 20 * MB <= first["default"]["rx"] + rest["default"]["rx"] < 20 * MB + 1000
        assert first["default"]["tx"] + rest.get("default", {"tx": 0})["tx"] < 1000
        assert fetch_json(port, "/traffic") == {}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_who_is_there_and_what_is_open(transport, origin, tmp_path):
    port, options = guarded(tmp_path)
    with running_pair(tmp_path, transport, options) as (_, client):
        assert fetch_json(port, "/dump/streams") == {"streams": []}
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock, b"x" * 100)
            assert fetch_json(port, "/online") == {"default": 1}
            (stream,) = fetch_json(port, "/dump/streams")["streams"]
            for name in ("initial_at", "last_active_at"):
                assert datetime.fromisoformat(stream.pop(name)).tzinfo
            assert 0 < stream.pop("connection") < 2**32
            assert stream == {
                "state": "estab",
                "auth": "default",
                "stream": 1,
                "req_addr": f"127.0.0.1:{origin.echo}",
                "hooked_req_addr": "",
                "tx": 100,
                "rx": 100,
            }
            head, row = fetch(port, "/dump/streams", Accept="text/plain")[1].splitlines()
            assert head.split()[:4] == ["State", "Auth", "Connection", "Stream"]
            assert re.fullmatch(
                rf"ESTAB +default +[0-9A-F]{{8}} +1 +100 +100 +\d\S+s +\S+s +127.0.0.1:{origin.echo} +-", row
            )


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_user_who_is_kicked_loses_its_connections_and_others_do_not(transport, origin, tmp_path):
    port, options = guarded(tmp_path)
    with running_pair(tmp_path, transport, options) as (_, client):
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock)
            assert fetch(port, "/kick", json.dumps(["nobody"]).encode()) == (200, "")
            assert echoes(sock)
            assert fetch(port, "/kick", json.dumps(["nobody", "default"]).encode()) == (200, "")
            breaks(sock)
        assert works(client, origin)  # it may come back


def test_what_is_no_list_of_names(tmp_path, origin):
    port, options = guarded(tmp_path)
    with running_pair(tmp_path, "tls", options):
        for body in (b"", b"{}", b"[1]", b"\xff", b"[" * 100_000, b'"default"'):
            assert fetch(port, "/kick", body)[0] == 400
        for path in ("/traffic", "/online", "/dump/streams", "/nothing"):
            assert fetch(port, path, secret="wrong") == (401, "unauthorized\n")
        assert fetch(port, "/kick")[0] == 405
        assert fetch(port, "/")[0] == 200


@on_linux
def test_any_worker_answers_for_all(origin, tmp_path):
    port, options = guarded(tmp_path)
    server, links = everywhere(tmp_path, *options)
    with (
        server,
        start_client(tmp_path / "near", "tls", links[0]) as near,
        start_client(tmp_path / "far", "quic", links[1]) as far,
        connected(near.address, origin.echo) as one,
        connected(far.address, origin.echo) as other,
    ):
        for client in (near, far):
            curl(client.address, "socks5", f"http://127.0.0.1:{origin.web}/0/{MB}")
        assert echoes(one)
        assert echoes(other)
        taken = [fetch_json(port, "/traffic?clear=1") for _ in range(10)]
        moved = sum(found.get("default", {"rx": 0})["rx"] for found in taken)
        assert 2 * MB < moved < 2 * MB + 2000
        for _ in range(10):
            assert fetch_json(port, "/online") == {"default": 2}
            assert len(fetch_json(port, "/dump/streams")["streams"]) == 2
        assert fetch(port, "/kick", b'["default"]')[0] == 200
        breaks(one)
        breaks(other)
