"""Applications of plain HTTP that leave, stop or break: the target learns of it."""

import pytest
from gevent import socket

from lane.inbound import http
from lane.testing.harness import until
from tests.support.http_targets import SHORT, answers, endless, get, read_head, target
from tests.support.inbound import Direct, dial, receive, reset, running, to_end


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
