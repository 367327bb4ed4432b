"""Answers of targets of plain HTTP: what servers write is mended, and what breaks never looks complete."""

import pytest
from gevent import socket
from gevent.event import Event

from tests.support.http_targets import OK, SHORT, answers, get, once, read_head, target
from tests.support.inbound import Direct, dial, receive, reset, running, to_end

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
