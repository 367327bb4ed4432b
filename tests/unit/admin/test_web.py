import socket
from http import HTTPStatus

import gevent
import pytest
from gevent import socket as gsocket

from lane.admin import web
from lane.admin.web import MAX_BODY, MAX_HEAD, MOST_CONNECTIONS, Response, Route, WebServer
from lane.testing.harness import until

SECRET = "a-secret-of-many-characters"


def echo(request):
    return Response(repr((dict(request.query), request.body)).encode())


def broken(request):
    raise ValueError("a bug")


ROUTES = {
    ("GET", "/open"): Route(echo, secret=False),
    ("GET", "/read"): Route(echo, secret=None),
    ("GET", "/api"): Route(echo),
    ("POST", "/api"): Route(echo),
    ("GET", "/broken"): Route(broken, secret=False),
}


@pytest.fixture
def serve():
    servers = []

    def start(secret=None, **how):
        listener = gsocket.create_server(("127.0.0.1", 0))
        servers.append(WebServer([listener], ROUTES, secret, **how))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def send(server, data, *, end=False):
    with gsocket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.settimeout(30)
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while more := sock.recv(65536):
                found += more
        except ConnectionResetError:  # it had not read all
            pass
    return found


def ask(server, path, method="GET", body=b"", **headers):
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if "Host" not in headers:
        lines.append("Host: 127.0.0.1")
    found = send(server, "\r\n".join([*lines, "", ""]).encode() + body)
    head, _, rest = found.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest.decode()


def test_who_may_ask_for_what(serve):
    free, guarded, trusted = serve(), serve(SECRET), serve(trusted=True)
    found = {
        path: tuple(ask(server, path)[0] for server in (free, guarded, trusted))
        for path in ("/open", "/read", "/api", "/nothing")
    }
    assert found == {
        "/open": (200, 200, 200),
        "/read": (200, 401, 200),
        "/api": (403, 401, 200),
        "/nothing": (404, 401, 404),
    }
    for given in (SECRET, f"Bearer {SECRET}", f"bearer {SECRET}"):
        assert ask(guarded, "/api", Authorization=given)[0] == 200
    for given in ("wrong", SECRET[:-1], f"Basic {SECRET}", "", "\xe4"):
        assert ask(guarded, "/api", Authorization=given)[0] == 401
    guarded.secret = "another-secret-than-that"
    assert ask(guarded, "/api", Authorization=SECRET)[0] == 401


def test_a_guess_is_slowed_down_and_in_the_log(serve, caplog):
    caplog.set_level("INFO")
    server = serve(SECRET)
    assert [ask(server, "/api", Authorization="guess")[0] for _ in range(2)] == [401, 401]
    assert "wrong admin secret from 127.0.0.1" in caplog.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:9433", 200), ("127.0.0.1:1", 200), ("[::1]:9433", 200),
        ("evil.example.com", 403), ("localhost.evil.com", 403), ("127.0.0.1.evil.com:80", 403), ("", 403),
        ("evil@localhost:x", 200), ("[", 403),
    ],
)  # fmt: skip
def test_a_name_that_was_bound_to_this_address_is_refused(serve, host, status):
    assert ask(serve(), "/read", Host=host)[0] == status
    assert ask(serve(SECRET), "/read", Host=host, Authorization=SECRET)[0] == 200


@pytest.mark.parametrize(("host", "status"), [("lane", 200), ("127.0.0.1:9433", 200), ("evil.example", 403)])
def test_a_socket_that_is_forwarded_to_a_port_refuses_names_of_strangers(serve, host, status):
    assert ask(serve(trusted=True), "/api", Host=host)[0] == status
    assert ask(serve(SECRET, trusted=True), "/api", Host=host)[0] == status


def test_methods_bodies_and_queries(serve):
    server = serve(SECRET)
    assert ask(server, "/api?a=1&b=%20", Authorization=SECRET) == (200, "({'a': '1', 'b': ' '}, b'')")
    assert ask(server, "/api", "POST", b"[1]", Authorization=SECRET) == (200, "({}, b'[1]')")
    assert ask(server, "/api", "PUT", Authorization=SECRET) == (405, "use GET, POST\n")
    status, body = ask(server, "/open", "HEAD")
    assert (status, body) == (200, "")


def test_what_is_malformed_or_too_much(serve):
    server = serve(trusted=True)
    assert send(server, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert send(server, b"GET /" + b"x" * (MAX_HEAD + 10)).startswith(b"HTTP/1.1 431 ")
    long = b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1)
    assert send(server, long + bytes(MAX_BODY + 1))[:12] in (b"HTTP/1.1 413", b"")
    assert ask(server, "/open?" + "&".join("a" * 100))[0] == 400
    assert send(server, b"GET / HTTP/1.1\r\n", end=True).startswith(b"HTTP/1.1 400 ")
    assert send(server, b"", end=True) == b""
    expects = b"POST /api HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    assert send(server, expects + b"x").endswith(b"({}, b'x')")


def test_a_fault_costs_only_its_request(serve, caplog):
    server = serve()
    assert ask(server, "/broken") == (500, "this failed; the log has the reason\n")
    assert "ValueError: a bug" in caplog.text
    assert ask(server, "/open")[0] == HTTPStatus.OK


def test_who_says_nothing_is_sent_away_and_holds_up_nobody_for_long(serve, monkeypatch):
    monkeypatch.setattr(web, "READ_TIME", 0.5)
    server = serve()
    silent = [gsocket.create_connection(("127.0.0.1", server.port)) for _ in range(MOST_CONNECTIONS + 5)]
    answers = [gevent.spawn(one.recv, 100) for one in silent]
    until(lambda: all(one.ready() for one in answers))
    values = [one.value or b"" for one in answers]
    assert sum(value.startswith(b"HTTP/1.1 408 ") for value in values) == MOST_CONNECTIONS
    assert len(server._pool) == 0 or until(lambda: len(server._pool) == 0)
    assert ask(server, "/open")[0] == 200
    for one in silent:
        one.close()


def test_a_port_closes(serve):
    server = serve()
    port = server.port
    server.close()
    with pytest.raises(ConnectionRefusedError):
        gsocket.create_connection(("127.0.0.1", port))
