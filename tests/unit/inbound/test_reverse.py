"""Who keeps sessions parked for a reverse forward: how often it tries, and what it says."""

import gevent
import pytest
from gevent.event import AsyncResult, Event

from lane.address import Address
from lane.config.listeners import Reverse as Option
from lane.errors import Closed, Status, TargetError, Unreachable, UsageError
from lane.inbound import reverse as module
from lane.inbound.reverse import PARKED, ReverseForwarder
from lane.testing.harness import settled, until

pytestmark = pytest.mark.usefixtures("clock")

TARGET = Address("127.0.0.1", 3000)
PEER = Address("198.51.100.7", 20)


class Parked:
    bound = Address("::", 9000)

    def __init__(self):
        self.came = AsyncResult()
        self.aborted = self.ran = False

    def accept(self, goes=None):
        return self.came.get()

    def run(self, sock, early):
        self.ran = True

    def abort(self):
        self.aborted = True


class Server:
    """`answers`: what the next requests raise; afterwards all is well."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked, self.parked = [], []

    def reverse(self, where):
        self.asked.append(where)
        gevent.sleep(0.001)
        if self.answers:
            raise self.answers.pop(0)
        self.parked.append(Parked())
        return self.parked[-1]


@pytest.fixture
def start(monkeypatch, caplog):
    caplog.set_level("INFO", "lane.client")
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.004)
    started = []

    def make(server, dial=lambda target: None, **options):
        started.append(
            ReverseForwarder(server, Address("::", 0), TARGET, dial, shown="server.test", **options)
        )
        started[-1].start()
        return started[-1]

    yield make
    for each in started:
        each.close()


def test_only_one_asks_for_a_port_that_the_server_picks(start, caplog):
    server = Server()
    reverse = start(server)
    until(lambda: len(server.parked) == PARKED)
    assert server.asked == [Address("::", 0), *[Address("::", 9000)] * (PARKED - 1)]
    assert reverse.where == Address("::", 9000)
    assert caplog.messages == ["reverse: server.test:9000 -> 127.0.0.1:3000"]


def test_while_nothing_works_one_tries_for_all_and_says_so_once(start, caplog):
    server = Server(*[Unreachable(f"no way, {n}") for n in range(10)])
    start(server)
    until(lambda: len(server.parked) == PARKED)
    assert len(server.asked) == 10 + PARKED
    assert caplog.messages == [
        "reverse: server.test:0 -> 127.0.0.1:3000 does not work, and is tried again: no way, 0",
        "reverse: server.test:9000 -> 127.0.0.1:3000",
    ]


def test_after_a_loss_too(start, caplog):
    server = Server()
    start(server)
    until(lambda: len(server.parked) == PARKED)
    lost, server.parked = server.parked, []
    server.answers = [Unreachable("away")] * (2 * PARKED)
    for each in lost:
        each.came.set_exception(Closed("lost"))
    until(lambda: len(server.parked) == PARKED)
    assert all(each.aborted for each in lost)
    assert [text.partition("3000")[2] for text in caplog.messages] == [
        "",
        " does not work, and is tried again: away",
        "",
    ]


def test_connections_that_are_served_are_bounded_with_those_that_wait(start, monkeypatch):
    go, running = Event(), []
    monkeypatch.setattr(Parked, "run", lambda self, sock, early: running.append(self) or go.wait())
    server = Server()
    start(server, parked=2, most=5)
    for number in range(5):
        until(lambda number=number: len(server.parked) > number)
        server.parked[number].came.set(PEER)
    until(lambda: len(running) == 5)
    assert settled(lambda: len(server.parked)) == 5
    go.set()
    until(lambda: len(server.parked) == 7)


def test_an_accident_is_not_worth_a_line(start, caplog):
    server = Server()
    start(server)
    until(lambda: len(server.parked) == PARKED)
    server.answers = [Unreachable("lost")]
    server.parked[0].came.set_exception(Closed("lost"))
    until(lambda: len(server.parked) == PARKED + 1)
    assert len(caplog.messages) == 1


def test_pauses_grow_and_begin_anew(start, monkeypatch):
    pauses = []
    server = Server(*[Unreachable("away")] * 5)
    reverse = start(server)
    monkeypatch.setattr(
        reverse, "_pause_for", lambda e: pauses.append(ReverseForwarder._pause_for(reverse, e)) or 0
    )
    until(lambda: len(server.parked) == PARKED)
    assert pauses == [0.001, 0.002, 0.004, 0.004, 0.004]
    assert reverse._pause == 0.001


@pytest.mark.parametrize(
    ("status", "slow"),
    [(Status.NOT_ALLOWED, True), (Status.COMMAND_NOT_SUPPORTED, True), (Status.FAILURE, False)],
)
def test_who_was_refused_asks_seldom(start, caplog, status, slow):
    server = Server(*[TargetError(status, "not allowed")] * 3)
    start(server, refused_pause=1000.0)
    until(lambda: caplog.messages)
    gevent.sleep(900)
    assert bool(server.parked) is not slow
    assert caplog.messages[0].endswith("does not work, and is tried again: not allowed")


def test_a_connection_is_carried_and_its_session_replaced(start):
    server, dialled = Server(), []
    start(server, dialled.append)
    until(lambda: len(server.parked) == PARKED)
    server.parked[0].came.set(PEER)
    until(lambda: len(server.parked) == PARKED + 1)
    until(lambda: server.parked[0].ran)
    assert dialled == [TARGET]
    assert not server.parked[0].aborted


def test_a_target_that_cannot_be_reached_costs_its_connection_and_is_said_once(start, caplog):
    def dial(target):
        raise TargetError(Status.REFUSED, "connection refused")

    server = Server()
    start(server, dial)
    until(lambda: len(server.parked) == PARKED)
    for number in range(3):
        server.parked[number].came.set(PEER)
        until(lambda number=number: server.parked[number].aborted)
    assert not any(each.ran for each in server.parked)
    assert caplog.messages[1:] == [
        "reverse: server.test:9000 -> 127.0.0.1:3000: connection refused (connections to it are reset)"
    ]


def test_closing_lets_go_of_what_is_parked(start):
    server = Server()
    reverse = start(server)
    until(lambda: len(server.parked) == PARKED)
    reverse.close()
    assert all(each.aborted for each in server.parked)
    gevent.sleep(0.02)
    assert len(server.parked) == PARKED


@pytest.mark.parametrize(
    ("text", "where", "target"),
    [
        ("tcp://:9000=127.0.0.1:3000", Address("::", 9000), TARGET),
        ("tcp://*:9000=127.0.0.1:3000", Address("::", 9000), TARGET),
        ("TCP://localhost:0=127.0.0.1:3000", Address("127.0.0.1", 0), TARGET),
        ("tcp://[::1]:9000=web.test:80", Address("::1", 9000), Address("web.test", 80)),
        ("tcp://0.0.0.0:9000=[::1]:80", Address("0.0.0.0", 9000), Address("::1", 80)),
    ],
)
def test_options(text, where, target):
    assert Option.parse(text) == Option(where, target)


@pytest.mark.parametrize(
    "text",
    [
        "", "9000", "tcp://:9000", "tcp://:9000=", "tcp://:9000=:80", "tcp://:9000=web.test:0", "tcp://=web.test:80",
        "udp://:9000=web.test:80", "tcp://name.test:9000=web.test:80", ":9000=web.test:80", "tcp://:70000=a:1",
        "tcp://::1:9000=a:1",
    ],
)  # fmt: skip
def test_malformed_options(text):
    with pytest.raises(UsageError, match="malformed"):
        Option.parse(text)
