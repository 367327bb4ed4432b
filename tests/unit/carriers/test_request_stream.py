"""A stream from REQUEST to REPLY: what travels together, what is truthful, what is replaced."""

from contextlib import suppress
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from lane.address import Address
from lane.budget import Budget
from lane.carriers import recent_targets as recent_module
from lane.carriers.connector import FastOpen, TunnelConnector
from lane.carriers.path_control import PathControl
from lane.carriers.pool import Pool
from lane.carriers.recent_targets import RecentTargets
from lane.carriers.request_stream import RequestStream
from lane.carriers.session_driver import SessionDeadlines
from lane.errors import Closed, LaneError, ProtocolError, Status, TargetError
from lane.proto.frames import Data, FrameReader, Ping, Received, ResetFrame, pack
from lane.proto.hello import EARLY, NOWHERE, Command, Reply, Request, parse_request
from lane.session.receive_window import INITIAL_WINDOW, ReceiveWindow
from lane.session.registry import Registry
from lane.testing import MemoryTransport, TCPTransport, client_tls, server_tls
from lane.testing.harness import settled, until

HELLO = b"hello"
TARGET = Address("web.test", 443)
MB = 1 << 20


class Asked:
    """A stream as the server sees it: the request, and what came behind it so far."""

    def __init__(self, stream):
        self.stream, self.data, self.end = stream, b"", None
        self.whole = Event()
        self.reader = gevent.spawn(self.read)
        self.whole.wait()  # no `until`: time passes slowly while anybody polls

    def read(self):
        with suppress(LaneError):
            while more := self.stream.recv():
                self.data += more
                if self.request() is not None:
                    self.whole.set()
                if self.end and any(isinstance(frame, ResetFrame) for frame in self.frames()):
                    self.stream.close()  # which says that it was heard

    def request(self):
        found = parse_request(self.data[len(HELLO) :])
        if found:
            self.end = len(HELLO) + found[1]
            return found[0]
        return None

    def frames(self):
        return FrameReader().feed(self.data[self.end :])

    def early(self):
        return b"".join(bytes(frame.data) for frame in self.frames() if isinstance(frame, Data))

    def reply(self, status=Status.OK, window=INITIAL_WINDOW, more=b"", text="", epoch=bytes(8)):
        self.stream.sendall(Reply(status, epoch, window, Address("192.0.2.1", 7), text).pack() + more)


class Bed:
    """A client's connector, and the far side of its carriers."""

    def __init__(self, transport, fast_open, timeout=10.0):
        tls = server_tls()
        self.listener = transport.listen(Address("127.0.0.1", 0), tls)
        self.carriers, self.dials = [], 0

        def dial():
            self.dials += 1
            return transport.dial(self.listener.address, client_tls(tls))

        self.pool = Pool(dial, lambda carrier: HELLO, dial_timeout=5.0)
        self.registry = Registry(16 * MB, 512 * MB, 3600.0, 100, 100)
        self.paths = PathControl({"one": (1.0, self.pool)}, self.registry, "there is only one")
        self.connector = TunnelConnector(
            self.paths, self.registry, SessionDeadlines(timeout, 10.0), fast_open
        )
        self.connect = self.connector.connect
        self.asked, self.probes, self.jobs = [], [], []
        gevent.spawn(self.accept)
        self.apps = []

    def accept(self):
        with suppress(Closed):
            while True:
                self.carriers.append(self.listener.accept())
                gevent.spawn(self.serve, self.carriers[-1])

    def serve(self, carrier):
        with suppress(Closed):
            while True:
                self.jobs.append(gevent.spawn(self.ask, carrier.accept()))

    def ask(self, stream):
        """A spare waits here for a request that may never come: `close` ends that."""
        asked = Asked(stream)
        if asked.request().command == Command.PROBE:
            asked.reply()
            self.probes.append(asked)
        else:
            self.asked.append(asked)

    def next(self):
        """The next request at the server."""
        until(lambda: self.asked)
        return self.asked.pop(0)

    def application(self, connection, early=b""):
        """An application's socket whose connection is relayed."""
        here, there = socket.socketpair()
        self.apps.append(here)
        return here, gevent.spawn(connection.run, there, early)

    def reach(self, target=TARGET):
        """Reach it once, truthfully."""
        job = gevent.spawn(self.connect, target)
        self.next().reply()
        job.get().abort()

    def close(self):
        gevent.killall(self.jobs)
        for app in self.apps:
            app.close()
        self.paths.close()
        self.listener.close()
        self.registry.close()
        for carrier in self.carriers:
            carrier.close()


@pytest.fixture(params=[TCPTransport, MemoryTransport], ids=["tcp", "memory"])
def beds(request, clock):
    made = []

    def make(fast_open=FastOpen.AUTO, **options):
        made.append(Bed(request.param(), fast_open, **options))
        return made[-1]

    yield make
    for bed in made:
        bed.close()


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


def test_a_spare_that_is_dead_is_replaced(beds):
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    app, _ = bed.application(bed.connect(TARGET))
    bed.next().stream.reset()
    for carrier in bed.carriers:
        carrier.close()
    second = bed.next()
    assert (second.request().command, second.request().generation) == (Command.CONNECT, 1)
    second.reply(more=pack(Received(0)))
    app.sendall(b"hello")
    until(lambda: second.early() == b"hello")


@pytest.fixture
def uncertain(beds):
    """The second request of a session whose first one was lost with data behind it."""
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    app, job = bed.application(bed.connect(TARGET), early=b"buy one")
    first = bed.next()
    until(lambda: first.early() == b"buy one")
    first.stream.reset()
    second = bed.next()
    assert second.request().command == Command.RESUME
    assert (second.request().session, second.request().generation) == (first.request().session, 1)
    return bed, app, job, second


def test_a_server_that_got_the_first_request_goes_on_with_it(uncertain):
    _, app, _, second = uncertain
    second.reply(more=pack(Received(7)) + pack(Data(0, b"bought")))
    assert app.recv(10) == b"bought"
    app.sendall(b"and another")
    until(lambda: second.early() == b"and another")


def test_a_server_that_did_not_is_told_again(uncertain):
    bed, _, _, second = uncertain
    second.reply(Status.GONE)
    third = bed.next()
    assert (third.request().command, third.request().generation) == (Command.CONNECT, 2)
    third.reply(more=pack(Received(0)))
    until(lambda: third.early() == b"buy one")


def test_data_that_another_server_process_may_have_got_are_not_sent_again(uncertain):
    bed, app, job, second = uncertain
    second.reply(Status.GONE, epoch=b"another!")
    job.join()
    assert app.recv(10) == b""
    assert not bed.asked


def test_a_replacement_that_comes_too_late_is_given_back(beds):
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    connection = bed.connect(TARGET)
    _, job = bed.application(connection)
    first = bed.next()
    asked, gate, lease = Event(), Event(), bed.pool.lease

    def slow(**how):
        asked.set()
        gate.wait()
        return lease(**how)

    bed.pool.lease = slow
    first.stream.reset()
    asked.wait()
    job.kill()
    gate.set()

    def in_use():
        standing = [spare.carrier for spare in bed.pool._spares]
        return [carrier for carrier, leases in bed.pool._leases.items() if leases and carrier not in standing]

    until(lambda: len(in_use()) == 1)  # the probe's
    assert not bed.asked


def test_it_is_replaced_twice(beds):
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    app, job = bed.application(bed.connect(TARGET))
    for _ in range(3):
        bed.next().stream.reset()
    job.join()
    assert app.recv(10) == b""
    assert not bed.asked


def test_a_session_that_its_application_gave_up_asks_nobody_again(beds):
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    connection = bed.connect(TARGET)
    gevent.sleep(0)
    connection.abort()
    until(lambda: not len(bed.registry))
    settled(lambda: len(bed.asked))
    assert len(bed.asked) <= 1
    assert TARGET in bed.connector._recent_targets


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


# What was reached lately.


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(recent_module, "MOST", 3)
    reached = RecentTargets()
    targets = [Address("h", port) for port in range(5)]
    for target in targets[:3]:
        reached.note(target, True)
    reached.note(targets[0], True)
    for target in targets[3:]:
        reached.note(target, True)
    assert [target in reached for target in targets] == [True, False, False, True, True]
    assert len(reached) == 3


def test_a_success_counts_for_a_while_and_a_failure_ends_it(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(recent_module, "monotonic", lambda: now[0])
    reached = RecentTargets()
    reached.note(TARGET, True)
    assert Address("web.test", 80) not in reached  # the port counts
    now[0] += recent_module.LIFE - 1
    assert TARGET in reached
    now[0] += 1
    assert TARGET not in reached
    reached.note(TARGET, True)
    reached.note(TARGET, False)
    assert TARGET not in reached
