"""Plain HTTP through the inbound: what passes, who is told what, and what is bounded."""

import gevent
import pytest
from gevent import socket

from lane.errors import Status, TargetError
from lane.inbound import handshake, handshake_io, http
from lane.proto.http import MAX_HEAD, Http
from lane.testing.harness import settled, until
from tests.support.http_targets import SHORT, answers, endless, get, read_head, target
from tests.support.inbound import HTTP_SUCCESS, LOGIN, Direct, dial, receive, running, to_end


@pytest.mark.parametrize(
    ("status", "code"), [(Status.REFUSED, 502), (Status.NOT_ALLOWED, 403), (Status.TTL_EXPIRED, 504)]
)
def test_a_target_that_is_not_reached_leaves_the_connection_usable(status, code):
    with target(answers(SHORT)) as web:

        def connect(where):
            if where != web.address:
                raise TargetError(status, "why\r\nX: y")
            return Direct(where)

        with running(connect) as inbound, dial(inbound) as sock:
            sock.sendall(b"PUT http://other/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + get(web))
            assert read_head(sock).startswith(b"HTTP/1.1 %d " % code)
            assert receive(sock, 10) == b"why\r\nX: y\n"
            assert receive(sock, len(SHORT)) == SHORT


def test_expect_100_continue():
    def script(sock, found):
        read_head(sock)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert receive(sock, 3) == b"abc"
        sock.sendall(SHORT)

    with target(script) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web, "/", "Expect: 100-continue", "Content-Length: 3", method="PUT"))
        assert read_head(sock) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert receive(sock, len(SHORT)) == SHORT


def test_an_answer_before_the_body_ends_the_connection():
    def script(sock, found):
        read_head(sock)
        sock.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        try:
            sock.recv(1)
        except ConnectionResetError:  # a clean end could be taken for that of the body
            found.done.set()

    with target(script) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web, "/", "Expect: 100-continue", "Content-Length: 3", method="PUT"))
        assert to_end(sock) == b"HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        assert web.done.wait(60)


def test_an_upgrade_becomes_a_tunnel():
    def script(sock, found):
        head = read_head(sock)
        assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" in head
        sock.sendall(b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello ")
        while data := sock.recv(100):
            sock.sendall(data)

    with target(script) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web, "/", "Upgrade: websocket", "Connection: Upgrade") + b"early ")
        assert read_head(sock) == b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        assert receive(sock, 12) == b"hello early "
        sock.sendall(b"late")
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == b"late"


def test_a_tunnel_behind_an_exchange_and_a_login():
    def script(sock, found):
        while data := sock.recv(100):
            sock.sendall(data)

    login = "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ="
    with target(answers(SHORT)) as web, target(script) as echo, running(Direct, credentials=LOGIN) as inbound:
        tunnel = f"CONNECT {echo.address} HTTP/1.1\r\nHost: x\r\n".encode()
        with dial(inbound) as sock:
            sock.sendall(get(web))
            head = read_head(sock)
            assert head.startswith(b"HTTP/1.1 407 ")
            receive(sock, int(head.split(b"Content-Length: ")[1].split()[0]))
            sock.sendall(get(web, "/", login))
            assert receive(sock, len(SHORT)) == SHORT
            sock.sendall(tunnel + b"\r\n")
            assert read_head(sock).startswith(b"HTTP/1.1 407 ")
            receive(sock, int(head.split(b"Content-Length: ")[1].split()[0]))
            sock.sendall(tunnel + login.encode() + b"\r\n\r\nearly")
            assert receive(sock, len(HTTP_SUCCESS) + 5) == HTTP_SUCCESS + b"early"


def test_the_target_learns_nothing_of_the_login():
    with target(answers(SHORT)) as web, running(Direct, credentials=LOGIN) as inbound, dial(inbound) as sock:
        sock.sendall(get(web, "/", "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ="))
        assert receive(sock, len(SHORT)) == SHORT
        assert web.heads == [f"GET / HTTP/1.1\r\nHost: {web.address}\r\n\r\n".encode()]


def test_an_application_that_does_not_read_stops_the_target():
    with target(endless) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web))
        read_head(sock)
        assert 0 < settled(lambda: web.sent) < 30_000_000


@pytest.mark.parametrize("field", ["Content-Length: 10000000000", "Transfer-Encoding: chunked"])
def test_a_target_that_does_not_read_stops_the_application(field):
    sent = 0

    def send(sock):
        nonlocal sent
        data = b"10000\r\n" + bytes(65536) + b"\r\n"
        while True:
            sock.sendall(data)
            sent += len(data)

    def script(sock, found):
        read_head(sock)
        found.done.wait()

    with target(script) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web, "/", field, method="POST"))
        sender = gevent.spawn(send, sock)
        assert 0 < settled(lambda: sent) < 30_000_000
        sender.kill()
        web.done.set()


@pytest.mark.bulk
def test_what_is_held_of_pipelined_requests_is_bounded(monkeypatch):
    codecs = []

    class Kept(Http):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            codecs.append(self)

    monkeypatch.setattr(handshake, "Http", Kept)
    with target(answers(SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        data = get(web, "/", "X: " + "x" * 1000) * 2000
        sender = gevent.spawn(sock.sendall, data)
        held = 0
        for _ in range(2000):
            assert receive(sock, len(SHORT)) == SHORT
            held = max(held, len(codecs[0].trailing_data))
        sender.get()
        assert 0 < held <= MAX_HEAD + http.BODY_SIZE


@pytest.mark.parametrize("size", [17000, 65536, 65537])
def test_how_long_a_request_head_may_be(size):
    with target(answers(SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        value = b"x" * (size - len(get(web, "/", "X: ")))
        sock.sendall(get(web, "/", f"X: {value.decode()}"))
        if size <= 65536:
            assert receive(sock, len(SHORT)) == SHORT
            assert web.heads[0].endswith(b"\r\nX: " + value + b"\r\n\r\n")
        else:
            assert read_head(sock).startswith(b"HTTP/1.1 431 ")
            assert web.connections == 0


def test_a_target_gets_no_raw_utf_8():
    with target(answers(SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web, "/ü?ä"))
        assert receive(sock, len(SHORT)) == SHORT
        assert web.heads[0].startswith(b"GET /%C3%BC?%C3%A4 HTTP/1.1\r\n")


def test_a_request_that_may_go_no_further_reaches_no_target():
    with target(answers(SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        request = get(web, "/", "Max-Forwards: 0", method="TRACE")
        sock.sendall(request)
        head = read_head(sock)
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: message/http\r\n")
        assert receive(sock, len(request)) == request
        sock.sendall(get(web, "/", "Max-Forwards: 1", method="TRACE"))
        assert receive(sock, len(SHORT)) == SHORT
        assert [b"Max-Forwards: 0\r\n" in head for head in web.heads] == [True]


def test_a_proxy_auto_config_file_says_where_the_client_is():
    with running(pac=True) as inbound, dial(inbound) as sock:
        sock.sendall(b"GET /proxy.pac HTTP/1.0\r\n\r\n")
        assert b'"SOCKS5 %b; ' % str(inbound.address).encode() in to_end(sock)


def test_who_never_reads_an_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(http, "READ_TIME", 0.1)

    with (
        target(endless) as found,
        running(lambda _: Direct(found.address)) as inbound,
        dial(inbound) as sock,
    ):
        sock.sendall(f"GET http://{found.address}/ HTTP/1.1\r\nHost: {found.address}\r\n\r\n".encode())
        assert found.done.wait(30)
        until(lambda: not inbound.sessions)


def test_who_never_reads_what_it_is_told_is_given_up(monkeypatch):
    monkeypatch.setattr(handshake_io, "SAY_TIME", 0.1)

    def refuse(_):
        raise TargetError(Status.REFUSED, "x" * 200)

    with running(refuse) as inbound, dial(inbound) as sock:
        asked = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
        with pytest.raises(OSError):
            while True:  # and no answer is read
                sock.sendall(asked * 100)
        until(lambda: not inbound.sessions)
