"""A stream from REQUEST to REPLY: what travels together, and what is truthful."""

from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event

from lane.address import Address
from lane.budget import Budget
from lane.carriers.connector import FastOpen
from lane.carriers.request_stream import RequestStream
from lane.errors import ProtocolError, Status, TargetError
from lane.proto.frames import Data, FrameReader, Ping
from lane.proto.hello import EARLY, NOWHERE, Command, Request, parse_request
from lane.session.receive_window import INITIAL_WINDOW, ReceiveWindow
from lane.testing.harness import settled, until
from tests.support.requests_bed import HELLO, MB, TARGET


def test_the_first_contact_is_truthful(beds):
    bed = beds()
    job = gevent.spawn(bed.connect, TARGET)
    asked = bed.next()
    assert (asked.request().command, asked.request().address) == (Command.CONNECT, TARGET)
    settled(lambda: len(asked.data))
    assert not job.ready()
    asked.reply(Status.REFUSED, text="connection refused")
    with pytest.raises(TargetError, match="connection refused") as caught:
        job.get()
    assert caught.value.status is Status.REFUSED


@pytest.mark.parametrize("mode", [FastOpen.AUTO, FastOpen.ON])
def test_request_and_first_data_travel_together_before_any_reply(beds, mode):
    bed = beds(mode)
    if mode is FastOpen.AUTO:
        bed.reach()
    connection = bed.connect(TARGET)
    assert connection.bound == NOWHERE
    app, job = bed.application(connection)
    app.sendall(b"GET / ")
    asked = bed.next()
    until(lambda: asked.early() == b"GET / ")
    asked.reply()
    app.sendall(b"HTTP/1.1")
    until(lambda: asked.early() == b"GET / HTTP/1.1")
    job.kill()


def test_the_first_data_share_a_write_with_the_request(beds, monkeypatch):
    bed = beds(FastOpen.ON)
    connection = bed.connect(TARGET)
    written = []
    gevent.sleep(0)  # no longer: REQUEST waits for a moment only
    lease = connection._session._stream.lease
    send = lease.stream.sendall
    monkeypatch.setattr(lease.stream, "sendall", lambda data: (written.append(bytes(data)), send(data)))
    bed.application(connection, early=b"first words")
    until(lambda: written)
    assert written[0].startswith(HELLO)
    assert written[0].endswith(b"first words")


class SlowStream:
    """Takes one write at a time, each when it may `go`."""

    def __init__(self):
        self.sent, self.go, self.busy = b"", Event(), False

    def sendall(self, data):
        assert not self.busy
        self.busy = True
        self.go.wait()
        self.sent += data
        self.busy = False

    def recv(self, limit):
        Event().wait()


def test_data_wait_for_a_request_that_is_being_sent():
    stream, request = SlowStream(), Request(Command.CONNECT, TARGET, MB)
    lease = SimpleNamespace(stream=stream, send=stream.sendall, discard=lambda: None)
    opening = RequestStream(lease, request, 10.0)
    reader = gevent.spawn(opening.recv)  # nobody has said anything: the request leaves alone
    until(lambda: stream.busy)
    writer = gevent.spawn(opening.sendall, b"data")
    gevent.sleep(0)
    stream.go.set()
    writer.get()
    reader.kill()
    assert parse_request(stream.sent)[0] == request
    assert stream.sent.endswith(b"data")


def test_an_application_that_listens_first_is_not_waited_for(beds):
    bed = beds(FastOpen.ON)
    app, _ = bed.application(bed.connect(TARGET))
    asked = bed.next()
    asked.reply(more=b"\0\0\0\x0b" + bytes(8) + b"220")
    assert app.recv(100) == b"220"


def test_off_is_always_truthful(beds):
    bed = beds(FastOpen.OFF)
    bed.reach()
    job = gevent.spawn(bed.connect, TARGET)
    asked = bed.next()
    settled(lambda: len(asked.data))
    assert not job.ready()
    asked.reply()
    assert job.get().bound == Address("192.0.2.1", 7)


def test_a_later_failure_resets_the_application_and_ends_the_trust(beds):
    bed = beds()
    bed.reach()
    app, job = bed.application(bed.connect(TARGET))
    app.sendall(b"hello?")
    bed.next().reply(Status.HOST_UNREACHABLE)
    job.join()
    assert app.recv(100) == b""  # a socket pair knows no reset
    again = gevent.spawn(bed.connect, TARGET)
    asked = bed.next()
    settled(lambda: len(asked.data))
    assert not again.ready()
    asked.reply()
    again.get()


def test_no_answer_in_time_is_a_failure(beds):
    bed = beds(FastOpen.ON, timeout=0.1)
    app, job = bed.application(bed.connect(TARGET))
    job.join()
    assert app.recv(100) == b""
    assert len(bed.registry) == 0


def test_not_more_than_a_server_surely_takes_is_sent_before_its_reply(beds):
    bed = beds(FastOpen.ON)
    app, _ = bed.application(bed.connect(TARGET))
    upload = gevent.spawn(app.sendall, bytes(MB))
    asked = bed.next()
    assert settled(lambda: len(asked.early())) == EARLY
    asked.reply(window=INITIAL_WINDOW)
    assert settled(lambda: len(asked.early())) == INITIAL_WINDOW
    frames = FrameReader().feed(asked.data[asked.end :])
    assert all(isinstance(frame, Data | Ping) for frame in frames)
    upload.kill()


def test_a_server_with_a_small_window_gets_no_more_than_that_afterwards(beds):
    bed = beds(FastOpen.ON)
    app, _ = bed.application(bed.connect(TARGET))
    upload = gevent.spawn(app.sendall, bytes(MB))
    asked = bed.next()
    until(lambda: len(asked.early()) == EARLY)
    asked.reply(window=1024)
    assert settled(lambda: len(asked.early())) == EARLY
    upload.kill()


def test_garbage_in_place_of_a_reply_is_a_failure(beds):
    bed = beds(FastOpen.ON)
    app, job = bed.application(bed.connect(TARGET))
    bed.next().stream.sendall(b"\xff" * 100)
    job.join()
    assert app.recv(10) == b""


def test_a_server_takes_early_data_whatever_its_window_is():
    inbox = ReceiveWindow(1024, Budget(MB))
    inbox.receive(0, bytes(EARLY), 0.0, 0.1)
    with pytest.raises(ProtocolError):
        inbox.receive(EARLY, b"!", 0.0, 0.1)
