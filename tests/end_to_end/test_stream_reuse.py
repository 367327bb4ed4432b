"""One stream, one session after the other: the client of these tests writes the bytes itself."""

from contextlib import contextmanager

import gevent
import psutil
import pytest

from lane.address import Address
from lane.carriers.demand import COVER, MOST
from lane.certs import PinnedTLS
from lane.errors import Closed, Reset
from lane.link import Link
from lane.plugins import load
from lane.proto.frames import Ack, Data, End, Fin, FrameReader, pack
from lane.proto.hello import Command, Request, pack_hello, parse_reply, token
from lane.session.receive_window import INITIAL_WINDOW
from lane.testing.harness import until
from tests.support.origin import CONTENT
from tests.support.processes import DEADLINE, TRANSPORTS, connected, echoes, running_pair, start_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("server")) as server:
        yield server
        assert "Traceback" not in server.stderr


@contextmanager
def opened(server, transport):
    """A stream to the server that has sent HELLO."""
    link = Link.parse(server.link)
    with gevent.Timeout(DEADLINE, AssertionError("the test hangs")):
        carrier = load().transport(transport).dial(link.address, PinnedTLS(link.pin))
        try:
            stream = carrier.open()
            stream.sendall(pack_hello(token(link.key, carrier.binding)))
            yield stream
        finally:
            carrier.close()


def ask(port):
    return Request(Command.CONNECT, Address("127.0.0.1", port), INITIAL_WINDOW).pack()


class Side:
    """What comes over a stream: a REPLY, then frames."""

    def __init__(self, stream):
        self.stream, self.data = stream, b""

    def reply(self):
        while (found := parse_reply(self.data)) is None:
            self.data += self.stream.recv()
        reply, end = found
        self.data = self.data[end:]
        return reply

    def frames_until(self, kind):
        reader, frames = FrameReader(), []
        while True:
            frames += reader.feed(self.data)
            self.data = reader.rest or b""
            if any(isinstance(frame, kind) for frame in frames):
                return frames
            self.data = self.stream.recv()
            assert self.data


def talk(side, port, text, more=b""):
    """A whole session with an echo: what came back. `more` is written with the END."""
    data = pack(Data(0, text)) if text else b""
    side.stream.sendall(ask(port) + data + pack(Fin(len(text))))
    assert side.reply().status == 0
    frames = side.frames_until(Fin)
    back = b"".join(bytes(frame.data) for frame in frames if isinstance(frame, Data))
    side.stream.sendall(pack(Ack(len(back) + 1, INITIAL_WINDOW)) + pack(End()) + more)
    if not any(isinstance(frame, End) for frame in frames):
        side.frames_until(End)
    return back


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_many_sessions_over_one_stream(server, origin, transport):
    with opened(server, transport) as stream:
        side = Side(stream)
        for size in (1, 5, 1000, 0, 16_000, 7):
            assert talk(side, origin.echo, CONTENT[:size]) == CONTENT[:size]
        stream.finish()
        assert stream.recv() == b""  # the server ends it in good order


def test_a_request_in_the_same_write_as_the_end_before_it(server, origin):
    with opened(server, "tls") as stream:
        side = Side(stream)
        more = ask(origin.echo) + pack(Data(0, b"again"))
        assert talk(side, origin.echo, b"first", more) == b"first"
        assert side.reply().status == 0
        (data,) = [f for f in side.frames_until(Data) if isinstance(f, Data)]
        assert bytes(data.data) == b"again"


def test_a_refusal_ends_a_stream_that_was_used_before(server, origin):
    with opened(server, "tls") as stream:
        side = Side(stream)
        talk(side, origin.echo, b"first")
        stream.sendall(ask(origin.closed) + pack(Data(0, b"early")))
        assert side.reply().status == 5
        assert stream.recv() == b""


@pytest.mark.parametrize("when", ["before anything", "before the end was acknowledged"])
def test_an_end_in_the_middle_is_an_error(server, origin, when):
    with opened(server, "tls") as stream:
        side = Side(stream)
        stream.sendall(ask(origin.echo))
        assert side.reply().status == 0
        if when != "before anything":
            stream.sendall(pack(Data(0, b"x")) + pack(Fin(1)))
            side.frames_until(Fin)
        stream.sendall(pack(End()) + b"what follows is no REQUEST to it")
        with pytest.raises((Reset, Closed)):
            while stream.recv():
                pass
            raise Reset  # RESET and an end


def test_a_session_gets_the_connection_of_the_one_before(tmp_path, origin):
    """Over TLS, as an operator sees it: far fewer are dialled than sessions there are."""
    with running_pair(tmp_path, "tls") as (server, client):

        def connections():
            found = psutil.Process(client.process.pid).net_connections("tcp")
            return {one.laddr.port for one in found if one.raddr and one.raddr.port == server.address[1]}

        def use():
            with connected(client.address, origin.echo) as sock:
                assert echoes(sock)

        use()
        until(lambda: len(connections()) >= COVER, client.describe)
        before, after = connections(), set()
        for _ in range(3 * MOST):
            use()
            after |= connections()
        assert len(after - before) < 2 * MOST  # spares that demand called for, and no one for each session
