"""Plain HTTP through the inbound with all kinds of targets: what is kept, what breaks, who is told."""

from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from lane.address import Address
from lane.errors import Status, TargetError
from lane.inbound import handshake, handshake_io, http
from lane.proto.http import MAX_HEAD, Http
from lane.testing.harness import settled, until
from tests.support.inbound import HTTP_SUCCESS, LOGIN, Direct, dial, receive, reset, running, to_end

OK = b"HTTP/1.1 200 OK\r\n"
SHORT = OK + b"Content-Length: 2\r\n\r\nok"


def read_head(sock):
    """One head, byte by byte, so that nothing behind it is taken."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = sock.recv(1)
        if not more:
            return b""
        data += more
    return data


@contextmanager
def target(*scripts):
    """A server that plays one script a connection, the last one for all further ones."""
    left = list(scripts)
    found = SimpleNamespace(connections=0, heads=[], done=Event())

    def serve(sock, _):
        found.connections += 1
        script = left.pop(0) if len(left) > 1 else left[0]
        try:
            script(sock, found)
        except OSError:
            pass
        finally:
            sock.close()

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    found.address = Address("127.0.0.1", server.server_port)
    try:
        yield found
    finally:
        server.stop(1)


def answers(data):
    """A script: every request gets `data`."""

    def script(sock, found):
        while head := read_head(sock):
            found.heads.append(head)
            sock.sendall(data)

    return script


def once(data, end=socket.socket.close):
    """A script: one request gets `data`, and then the connection ends."""

    def script(sock, found):
        found.heads.append(read_head(sock))
        sock.sendall(data)
        end(sock)

    return script


def get(where, path="/", *fields, method="GET"):
    lines = [f"{method} http://{where.address}{path} HTTP/1.1", "Host: x", *fields, "", ""]
    return "\r\n".join(lines).encode()


def test_requests_to_one_target_share_a_connection():
    with target(answers(SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        for number in range(3):
            sock.sendall(get(web, f"/{number}"))
            assert receive(sock, len(SHORT)) == SHORT
        assert web.connections == 1
        assert [head.split()[1] for head in web.heads] == [b"/0", b"/1", b"/2"]


def test_requests_to_different_targets_in_a_row():
    with target(answers(SHORT)) as one, target(answers(SHORT)) as other, running(Direct) as inbound:
        with dial(inbound) as sock:
            for web in (one, other, one):
                sock.sendall(get(web))
                assert receive(sock, len(SHORT)) == SHORT
        assert (one.connections, other.connections) == (2, 1)


def test_pipelined_requests_are_answered_in_order():
    with (
        target(answers(SHORT)) as one,
        target(answers(SHORT[:-2] + b"OK")) as other,
        running(Direct) as inbound,
        dial(inbound) as sock,
    ):
        sock.sendall(get(one) + get(other) + get(one) + get(one))
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == SHORT + SHORT[:-2] + b"OK" + SHORT + SHORT


class Watched(Direct):
    """A connection whose end is seen."""

    def __init__(self, where, ended):
        super().__init__(where)
        self._ended = ended

    def abort(self):
        super().abort()
        self._ended.set()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_target_that_closes_a_kept_connection_is_noticed(method):
    ended = Event()
    with (
        target(once(SHORT), answers(SHORT)) as web,
        running(lambda where: Watched(where, ended)) as inbound,
        dial(inbound) as sock,
    ):
        sock.sendall(get(web))
        assert receive(sock, len(SHORT)) == SHORT
        assert ended.wait(60)
        sock.sendall(get(web, "/", "Content-Length: 0", method=method))
        assert receive(sock, len(SHORT)) == SHORT
        assert web.connections == 2


def test_a_target_that_takes_no_more_gets_no_more():
    last = OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok"
    with target(answers(last)) as web, running(Direct) as inbound, dial(inbound) as sock:
        for _ in range(2):  # though it does not close
            sock.sendall(get(web))
            assert receive(sock, len(SHORT)) == SHORT
        assert web.connections == 2


def ends_at_the_second(sock, found, end=socket.socket.close, last=b""):
    """A script: the connection ends while the second request is on its way."""
    found.heads.append(read_head(sock))
    sock.sendall(SHORT)
    found.heads.append(read_head(sock))
    sock.sendall(last)
    end(sock)


REPEATABLE = {
    "GET": get,
    "HEAD": partial(get, method="HEAD"),
    "OPTIONS": partial(get, method="OPTIONS"),
    "no body": lambda *where: get(*where, "Content-Length: 0", method="DELETE"),
}


def sending(method, length="Content-Length: 2", body=b"ab"):
    """What makes a request with a body."""
    return lambda *where: get(*where, length, method=method) + body


ONCE = {
    "POST": sending("POST"),
    "POST without a body": sending("POST", "Content-Length: 0", b""),
    "PUT": sending("PUT"),
    "PATCH": sending("PATCH"),
    "DELETE with a body": sending("DELETE"),
    "GET with a body": sending("GET"),
    "chunks": sending("POST", "Transfer-Encoding: chunked", b"2\r\nab\r\n0\r\n\r\n"),
    "no chunks": sending("PUT", "Transfer-Encoding: chunked", b"0\r\n\r\n"),
    "an unknown method": partial(get, method="MKCALENDAR"),
}


@pytest.mark.parametrize("made", REPEATABLE.values(), ids=REPEATABLE)
@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
def test_a_request_that_meets_the_end_of_a_kept_connection_is_sent_again(made, end):
    script = partial(ends_at_the_second, end=end)
    with target(script, answers(SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web))
        assert receive(sock, len(SHORT)) == SHORT
        sock.sendall(made(web, "/again"))
        assert read_head(sock) == SHORT[:-2]
        assert web.connections == 2
        assert len([head for head in web.heads if b"/again" in head]) == 2


@pytest.mark.parametrize("made", ONCE.values(), ids=ONCE)
@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("pipelined", [False, True], ids=["", "pipelined"])
def test_what_may_not_be_sent_twice_does_not_meet_the_end_of_a_kept_connection(made, end, pipelined):
    script = partial(ends_at_the_second, end=end)
    with target(script, answers(SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        requests = get(web), made(web, "/once")
        for data in [b"".join(requests)] if pipelined else requests:
            sock.sendall(data)
            assert receive(sock, len(SHORT)) == SHORT
        if pipelined:
            assert receive(sock, len(SHORT)) == SHORT
        assert web.connections == 2
        assert len([head for head in web.heads if b"/once" in head]) == 1


def test_the_connection_of_a_request_with_a_body_is_kept_for_those_without():
    def script(sock, found):
        while head := read_head(sock):
            found.heads.append(head)
            receive(sock, 2 if b"POST" in head else 0)
            sock.sendall(SHORT)

    with target(script) as web, running(Direct) as inbound, dial(inbound) as sock:
        for data in (get(web), ONCE["POST"](web, "/"), get(web), get(web), ONCE["POST"](web, "/")):
            sock.sendall(data)
            assert receive(sock, len(SHORT)) == SHORT
        assert web.connections == 3


def test_a_request_that_is_sent_again_may_fail_and_the_application_goes_on():
    with (
        target(ends_at_the_second, once(b""), answers(SHORT)) as web,
        running(Direct) as inbound,
        dial(inbound) as sock,
    ):
        sock.sendall(get(web))
        assert receive(sock, len(SHORT)) == SHORT
        sock.sendall(get(web))
        head = read_head(sock)
        assert head.startswith(b"HTTP/1.1 502 ")
        receive(sock, int(head.split(b"Content-Length: ")[1].split()[0]))
        assert web.connections == 2
        sock.sendall(get(web))
        assert receive(sock, len(SHORT)) == SHORT


def test_a_target_that_gave_up_waiting_is_asked_again():
    late = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with (
        target(lambda sock, found: ends_at_the_second(sock, found, last=late), once(late)) as web,
        running(Direct) as inbound,
        dial(inbound) as sock,
    ):
        sock.sendall(get(web))
        assert receive(sock, len(SHORT)) == SHORT
        sock.sendall(get(web))  # and there it is the answer
        assert read_head(sock) == b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
        assert web.connections == 2


def test_a_new_connection_that_is_dead_is_not_tried_again():
    with (
        target(lambda sock, found: read_head(sock)) as web,
        running(Direct) as inbound,
        dial(inbound) as sock,
    ):
        sock.sendall(get(web, "/", "Connection: close"))
        answer = to_end(sock)
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert answer.endswith(b"\r\n\r\nthe target closed the connection without an answer\n")
        assert web.connections == 1


BROKEN = {
    "known length": OK + b"Content-Length: 5\r\n\r\nabc",
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
def test_an_answer_that_breaks_never_looks_complete(data, end):
    with target(once(data, end)) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web))
        with pytest.raises(ConnectionResetError):
            to_end(sock)


AS_SERVERS_WRITE = {
    "a space before a colon": OK + b"X : 1\r\nContent-Length: 2\r\n\r\nok",
    "a space before the colon of the length": OK + b"X: 1\r\nContent-Length : 2\r\n\r\nok",
    "HTTP/2": b"HTTP/2 200\r\nX: 1\r\nContent-Length: 2\r\n\r\nok",
    "lower case": b"http/1.1 200 ok\r\nX: 1\r\nContent-Length: 2\r\n\r\nok",
    "two spaces": b"HTTP/1.1  200 OK\r\nX: 1\r\nContent-Length: 2\r\n\r\nok",
    "line feeds": b"HTTP/1.1 200 OK\nX: 1\nContent-Length: 2\n\nok",
    "a line that goes on": OK + b"X:\r\n 1\r\nContent-Length: 2\r\n\r\nok",
    "a line that is no field": OK + b"X: 1\r\nError\r\nContent-Length: 2\r\n\r\nok",
    "a server of music": b"ICY 200 OK\r\nX: 1\r\nContent-Length: 2\r\n\r\nok",
    "no coding": OK + b"X: 1\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("data", AS_SERVERS_WRITE.values(), ids=AS_SERVERS_WRITE)
def test_an_answer_as_servers_write_it_is_mended_and_the_last_of_its_connection(data):
    poison = OK + b"X: poison\r\nContent-Length: 0\r\n\r\n"
    with target(answers(data + poison)) as web, running(Direct) as inbound, dial(inbound) as sock:
        for number in (1, 2):
            sock.sendall(get(web))
            first, *fields = read_head(sock).split(b"\r\n")[:-2]
            assert first.upper() in (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ")
            assert fields == [b"X: 1", b"Content-Length: 2"]
            assert receive(sock, 2) == b"ok"
            assert web.connections == number


@pytest.mark.parametrize("empty", [b"\r\n", b"\n\r\n"])
def test_empty_lines_before_an_answer_are_skipped(empty):
    with target(answers(empty + SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        for _ in range(2):
            sock.sendall(get(web))
            assert receive(sock, len(SHORT)) == SHORT
        assert web.connections == 1


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 2\r\nContent-Length : 3\r\n",
        b"Content-Length\r\n : 2\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n",
        b"Transfer-Encoding : gzip, chunked\r\n",
        b"X: y\rContent-Length: 2\r\n",
    ],
)
def test_an_answer_whose_end_is_unclear_is_none(fields):
    data = OK + fields + b"\r\nok" + SHORT
    with target(answers(data)) as web, running(Direct) as inbound, dial(inbound) as sock:
        for number in (1, 2):
            sock.sendall(get(web))
            head = read_head(sock)
            assert head.startswith(b"HTTP/1.1 502 ")
            receive(sock, int(head.split(b"Content-Length: ")[1].split()[0]))
            assert web.connections == number


def test_an_answer_until_close_ends_as_its_connection_does():
    gate = Event()

    def after_reading(end):
        def script(sock):
            gate.wait()
            end(sock)

        return script

    data = OK + b"\r\nabc"
    scripts = once(data, after_reading(socket.socket.close)), once(data, after_reading(reset))
    with target(*scripts) as web, running(Direct) as inbound:
        with dial(inbound) as sock:
            sock.sendall(get(web))
            gate.set()
            assert to_end(sock) == OK + b"Connection: close\r\n\r\nabc"
        gate.clear()
        with dial(inbound) as sock:
            sock.sendall(get(web))
            assert read_head(sock) == OK + b"Connection: close\r\n\r\n"
            assert receive(sock, 3) == b"abc"
            gate.set()
            with pytest.raises(ConnectionResetError):
                to_end(sock)


def test_a_client_that_is_stopped_resets_what_it_was_passing_on():
    with target(answers(OK + b"\r\nabc")) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web))
        read_head(sock)
        inbound.kill()
        with pytest.raises(ConnectionResetError):
            to_end(sock)


def endless(sock, found):
    """A script: an answer without end, until the connection breaks."""
    found.heads.append(read_head(sock))
    found.sent = 0
    try:
        sock.sendall(OK + b"\r\n")
        while True:
            found.sent += sock.send(bytes(65536))
    except OSError:
        found.done.set()


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_an_application_that_leaves_in_an_answer_ends_that_of_the_target(leave):
    with target(endless) as web, running(Direct) as inbound:
        sock = dial(inbound)
        sock.sendall(get(web))
        receive(sock, 100_000)
        leave(sock)
        assert web.done.wait(60)
        until(lambda: inbound.sessions == 0)


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_an_application_that_leaves_before_its_answer_is_noticed_by_the_target(leave):
    def silent(sock, found):
        found.heads.append(read_head(sock))
        try:
            assert sock.recv(1) == b""
        finally:
            found.done.set()

    with target(silent) as web, running(Direct) as inbound:
        sock = dial(inbound)
        sock.sendall(get(web))
        until(lambda: web.heads)
        leave(sock)
        assert web.done.wait(60)
        until(lambda: inbound.sessions == 0)


@pytest.mark.parametrize("behind", ["an end", "another request"])
def test_an_application_that_breaks_where_nobody_reads_it_resets_the_target(behind):
    def silent(sock, found):
        found.heads.append(read_head(sock))
        try:
            while sock.recv(65536):
                pass
            until(lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        except ConnectionResetError:
            pass
        finally:
            found.done.set()

    with target(silent) as web, running(Direct) as inbound:
        sock = dial(inbound)
        sock.sendall(get(web))
        until(lambda: web.heads)
        if behind == "an end":
            sock.shutdown(socket.SHUT_WR)
        else:
            sock.sendall(get(web))
        reset(sock)
        assert web.done.wait(60)
        until(lambda: inbound.sessions == 0)


def test_an_application_that_leaves_in_its_request_resets_the_target():
    def reads(sock, found):
        found.heads.append(read_head(sock))
        try:
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            found.done.set()

    with target(reads) as web, running(Direct) as inbound:
        for data in (
            get(web, "/", "Content-Length: 5") + b"abc",
            get(web, "/", "Transfer-Encoding: chunked"),
        ):
            web.done.clear()
            with dial(inbound) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                assert to_end(sock).startswith(b"HTTP/1.1 400 ")
            assert web.done.wait(60)


def test_malformed_chunks_are_refused_and_reset_the_target():
    with target(answers(b"")) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web, "/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
        until(lambda: web.heads)
        sock.sendall(b"x\r\n" + get(web))
        assert to_end(sock).count(b"HTTP/1.1 400 ") == 1


def test_half_close_behind_a_request():
    def after_the_end(sock, found):
        read_head(sock)
        assert sock.recv(1) == b""
        sock.sendall(SHORT)

    with target(after_the_end) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web))
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == SHORT


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


@pytest.mark.parametrize("rest", [b"", b"GET http://"])
def test_an_application_may_leave_between_two_requests(caplog, rest):
    caplog.set_level("DEBUG", "lane.inbound")
    with target(answers(SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web))
        assert receive(sock, len(SHORT)) == SHORT
        sock.sendall(rest)
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == b""
    left = "dropped a connection: the application left before its request was complete"
    assert caplog.messages == [left] * bool(rest)


def test_an_application_that_asks_for_no_more_is_dropped(monkeypatch):
    monkeypatch.setattr(http, "IDLE_TIME", 0.05)
    with target(answers(SHORT)) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web))
        assert to_end(sock) == SHORT


def test_a_connection_to_a_target_is_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(http, "KEEP_TIME", 0.05)

    def script(sock, found):
        answers(SHORT)(sock, found)
        found.done.set()

    with target(script) as web, running(Direct) as inbound, dial(inbound) as sock:
        sock.sendall(get(web))
        assert receive(sock, len(SHORT)) == SHORT
        assert web.done.wait(60)
        sock.sendall(get(web))
        assert receive(sock, len(SHORT)) == SHORT
        assert web.connections == 2


@pytest.mark.parametrize(
    ("limit", "size"), [("PART_TIME", 0), ("LINGER_SIZE", 65536)], ids=["silent", "endless"]
)
def test_a_target_that_does_not_close_is_left(monkeypatch, limit, size):
    monkeypatch.setattr(http, "PART_TIME", 60)
    monkeypatch.setattr(http, limit, 0.05)
    ended = Event()

    def script(sock, found):
        answers(SHORT)(sock, found)
        while size:
            sock.sendall(bytes(size))
        ended.wait()

    with (
        target(script) as web,
        running(lambda where: Watched(where, ended)) as inbound,
        dial(inbound) as sock,
    ):
        sock.sendall(get(web, "/", "Connection: close"))
        assert b"Connection: close" in read_head(sock)
        assert ended.wait(60)


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
