"""Limits and deadlines of real processes: who is too much or too slow is told, the others go on."""

import select
import socket
import ssl
from contextlib import ExitStack, suppress

import gevent
import pytest

from lane.certs import PinnedTLS
from lane.errors import Closed
from lane.link import Link
from lane.plugins import load
from lane.proto.hello import HELLO_SIZE, pack_hello, token
from lane.testing.harness import until
from tests.support.origin import read_to_end
from tests.support.processes import (
    DEADLINE,
    TRANSPORTS,
    connected,
    echoes,
    read_exactly,
    running_pair,
    socks5,
    start_server,
)


def readable(sock):
    return bool(select.select([sock], [], [], 0)[0])


def outcome(client, port):
    """What a new request is answered with."""
    sock, code = socks5(client.address, "127.0.0.1", port)
    sock.close()
    return code


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_client_lets_new_ones_wait(tmp_path, origin, transport):
    with (
        running_pair(tmp_path, transport, client_options=("--max-sessions", "2")) as (_, client),
        connected(client.address, origin.echo) as first,
        connected(client.address, origin.echo) as second,
        socket.create_connection(client.address, DEADLINE) as third,
    ):
        third.sendall(b"\x05\x01\x00")
        for _ in range(100):  # it would have been answered meanwhile
            assert echoes(first)
            assert echoes(second)
        assert not readable(third)
        first.close()
        assert read_exactly(third, 2) == b"\x05\x00"
        assert echoes(second)


@pytest.mark.parametrize(
    ("option", "most"),
    [("--max-sessions", "4"), ("--max-sessions-per-peer", "2")],  # one user may have half of all
    ids=["sessions", "per-peer"],
)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_server_refuses_new_ones(tmp_path, origin, transport, option, most):
    with (
        running_pair(tmp_path, transport, (option, most), ("--fast-open", "off")) as (_, client),
        connected(client.address, origin.echo) as first,
        connected(client.address, origin.echo) as second,
    ):
        for _ in range(5):
            assert outcome(client, origin.echo) == 1
            assert echoes(first)
            assert echoes(second)
        first.close()
        until(lambda: outcome(client, origin.echo) == 0, client.describe)
        assert echoes(second)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_idle_session_ends_as_an_error(tmp_path, transport, side):
    options = {f"{side}_options": ("--idle-timeout", "1s")}
    with (
        running_pair(tmp_path, transport, **options) as (_, client),
        socket.create_server(("127.0.0.1", 0)) as listener,
        connected(client.address, listener.getsockname()[1]) as sock,
    ):
        listener.settimeout(DEADLINE)
        target, _ = listener.accept()
        with target:
            target.settimeout(DEADLINE)
            for end in (sock, target):
                with pytest.raises(ConnectionError):
                    read_to_end(end)
        assert outcome(client, listener.getsockname()[1]) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """It waits for HELLO for longer than any machine is busy."""
    with start_server(tmp_path_factory.mktemp("server"), "--hello-timeout", "100s") as server:
        yield server
        assert "Traceback" not in server.stderr


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("server"), "--hello-timeout", "1s") as server:
        yield server
        assert "Traceback" not in server.stderr


@pytest.fixture(params=TRANSPORTS)
def carrier(request):
    """A connection to a server, with nothing said yet."""
    server = request.getfixturevalue(getattr(request.function, "server", "server"))
    link = Link.parse(server.link)
    carrier = load().transport(request.param).dial(link.address, PinnedTLS(link.pin))
    carrier.right = pack_hello(token(link.key, carrier.binding))
    yield carrier
    carrier.close()


def ends_without_a_word(stream):
    """Whether the stream ends in this time, and says nothing before."""
    try:
        return stream.recv() == b""
    except Closed:
        return True


def of(name):
    """The server that `carrier` is a connection to."""

    def note(function):
        function.server = name
        return function

    return note


@of("hasty")
def test_a_stranger_who_says_nothing_is_sent_away(carrier):
    until(lambda: carrier.closed)


@of("hasty")
def test_a_stranger_who_says_little_is_sent_away(carrier):
    stream = carrier.open()
    stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert ends_without_a_word(stream)


@pytest.mark.parametrize("what", ["prefix", "token", "http"])
def test_a_wrong_hello_is_judged_when_it_is_whole(carrier, origin, what):
    hello = {
        "prefix": b"\0" + carrier.right[1:],
        "token": carrier.right[:-1] + bytes((carrier.right[-1] ^ 1,)),
        "http": b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"[:HELLO_SIZE],
    }[what]
    stream = carrier.open()
    stream.sendall(hello[: HELLO_SIZE - 1])
    answer = gevent.spawn(ends_without_a_word, stream)
    answer.join(0.3)
    assert not answer.ready()
    stream.sendall(hello[HELLO_SIZE - 1 :])
    assert answer.get()


def test_connections_that_do_not_even_shake_hands(server):
    """They go one by one, and meanwhile whoever knows how is served."""
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(server.address)) for _ in range(20)]
        noise = stack.enter_context(socket.create_connection(server.address))
        noise.sendall(b"GET / HTTP/1.1\r\n\r\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(server.address, DEADLINE) as sock,
            context.wrap_socket(sock, suppress_ragged_eofs=False) as secured,
        ):
            assert secured.version() == "TLSv1.3"
            secured.sendall(bytes(HELLO_SIZE))
            assert secured.recv(100) == b""  # a plain close, in good order
        for sock in (noise, *silent):
            sock.settimeout(DEADLINE)
            with suppress(ConnectionError):  # closed is closed
                read_to_end(sock)
