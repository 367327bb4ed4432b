"""Connections to targets of plain HTTP: which are kept for the next request, and what meets their end."""

from functools import partial

import pytest
from gevent import socket
from gevent.event import Event

from lane.inbound import http
from tests.support.http_targets import OK, SHORT, answers, get, once, read_head, target
from tests.support.inbound import Direct, dial, receive, reset, running, to_end


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
    ("limit", "size"), [("PART_TIME", 0), ("PART_SIZE", 65536)], ids=["silent", "endless"]
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
