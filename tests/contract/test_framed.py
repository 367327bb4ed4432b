"""A foreign transport keeps the contract, and the kit finds the mistakes that its author could have made."""

import gc
import struct
from contextlib import ExitStack
from types import SimpleNamespace

import gevent
import pytest
from gevent.socket import create_connection

from lane.errors import Closed, LaneError, Unreachable
from lane.stream import LinkStats
from lane.testing import TransportContract, contract, scene
from lane.testing.strangers import StrangerContract
from tests.support.framed import GREETING, FramedCarrier, FramedListener, FramedStream, FramedTransport


class TestFramed(TransportContract):
    def make(self):
        return FramedTransport()


class Hurried(TransportContract):
    """For what is to fail: with less patience."""

    greeting_limit = 2.0

    def make(self):
        transport = FramedTransport()
        transport.deadline = 0.5
        return transport


MISTAKES = []
SLOW = "test_a_slow_greeter_keeps_nobody_waiting_and_is_given_up"
HALF = "test_who_leaves_half_way_through_a_handshake"
GARBAGE = "test_who_sends_garbage"
CLOSING = "test_closing_a_listener_drops_who_is_half_way"
NO_SERVER = "test_dialling_what_is_no_server"
LATE_END = "test_an_end_that_comes_after_a_close_destroys_nothing"
WAKES = "test_close_wakes_the_reader"
CUT = "test_closing_while_the_peer_still_sends"
GROWN = "test_an_error_that_is_raised_again_has_not_grown"
TELLS = "test_what_a_carrier_tells"

right_greet = FramedListener.greet
kept = []


def mistake(owner, method, breaks, **arguments):
    """What is decorated replaces a method, and then a test of the kit must fail."""

    def note(function):
        MISTAKES.append(pytest.param(owner, method, function, breaks, arguments, id=function.__name__))
        return function

    return note


@mistake(FramedListener, "take", SLOW)
def greets_in_the_accept_loop(self, sock, host):
    self.greet(sock, host)


@mistake(FramedListener, "greet", SLOW)
def waits_for_a_greeting_for_ever(self, sock, host):
    self.deadline = 1000
    right_greet(self, sock, host)


@mistake(FramedListener, "greet", SLOW)
def begins_its_deadline_anew_with_each_byte(self, sock, host):
    sock.settimeout(self.deadline)
    try:
        self.handshake(sock)
    except OSError:
        sock.close()
    else:
        sock.settimeout(None)
        self.ready.put(FramedCarrier(FramedStream(sock), host, self.binding, dialled=False))


@mistake(FramedListener, "handshake", HALF, leave="end")
def takes_a_half_for_a_whole(self, sock):
    if not GREETING.startswith(sock.recv(len(GREETING)) or b"nothing"):
        raise OSError("no client of ours")
    sock.sendall(self.answer)


@mistake(FramedListener, "handshake", GARBAGE, leave="close")
def does_not_foresee_garbage(self, sock):
    if sock.recv(len(GREETING)) != GREETING:
        sock.close()
        raise ValueError("who is that?")
    sock.sendall(self.answer)


@mistake(FramedListener, "take", GARBAGE, leave="close")
def loses_its_loop_to_garbage(self, sock, host):
    does_not_foresee_garbage(self, sock)
    self.ready.put(FramedCarrier(FramedStream(sock), host, self.binding, dialled=False))


@mistake(FramedListener, "greet", HALF, leave="close")
def keeps_the_sockets_of_strangers(self, sock, host):
    kept.append(sock.dup())
    right_greet(self, sock, host)


@mistake(FramedListener, "greet", GARBAGE, leave="end")
def does_not_hang_up_on_strangers(self, sock, host):
    try:
        with gevent.Timeout(self.deadline):
            self.handshake(sock)
            self.ready.put(FramedCarrier(FramedStream(sock), host, self.binding, dialled=False))
    except (gevent.Timeout, OSError):
        kept.append(sock)


@mistake(FramedListener, "close", CLOSING)
def leaves_those_half_way_alone(self):
    self.deadline = 1000
    self._accepting.kill()
    self.sock.close()
    self.ready.shutdown()


@mistake(FramedTransport, "handshake", NO_SERVER, then="close")
def does_not_foresee_a_server_that_leaves(self, sock, tls):
    sock.sendall(GREETING)
    (size,) = struct.unpack("!H", sock.recv(2))
    return tls.verify([sock.recv(size)])


@mistake(FramedTransport, "dial", NO_SERVER, then="stay")
def dials_without_a_deadline(self, endpoint, tls):
    sock = create_connection(endpoint)
    try:
        binding = self.handshake(sock, tls)
    except OSError:
        sock.close()
        raise Unreachable("gone") from None
    return FramedCarrier(FramedStream(sock), endpoint.host, binding, dialled=True)


@mistake(FramedStream, "close", LATE_END, what="stream", swap=True)
def closes_without_lingering(self):
    if not self.failure and not self.sending and not self.unread():
        self.finish()
    self.end(Closed("closed"))
    self.sock.close()


@mistake(FramedStream, "close", WAKES, swap=False)
def closes_and_lets_the_reader_sleep(self):
    self.finish()
    self.end(Closed("closed"))


@mistake(FramedStream, "recv", CUT, swap=False)
def takes_a_cut_for_an_end(self, limit=262144):
    while not (piece := self._take(limit)):
        data = b"" if self.failure else self.sock.recv(limit)
        if not data:
            return b""
        self._came += data
    return piece


@mistake(FramedStream, "end", GROWN, swap=False)
def keeps_an_exception(self, error):
    self.failure = self.failure or SimpleNamespace(build=lambda: error)
    self.gone.set()
    return self.failure.build()


@mistake(FramedCarrier, "stats", TELLS)
def tells_nothing(self):
    return LinkStats()


@pytest.fixture
def _let_go():
    yield
    while kept:
        kept.pop().close()
    gc.collect()  # what a mistake has lost is found here, and not in another test


@pytest.mark.usefixtures("_let_go")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("owner", "method", "function", "breaks", "arguments"), MISTAKES)
def test_the_kit_finds_what(monkeypatch, owner, method, function, breaks, arguments):
    monkeypatch.setattr(scene, "ATTENTION", 2.0)
    monkeypatch.setattr(scene, "LEFT", 1.0)
    monkeypatch.setattr(contract, "PATIENCE", 4.0)
    monkeypatch.setattr(owner, method, function)
    tests = Hurried()
    with pytest.raises((AssertionError, LaneError)), ExitStack() as stack:
        stage = stack.enter_context(tests.opened())
        if breaks in vars(StrangerContract):
            stage = stack.enter_context(scene.staged(stage))
        getattr(tests, breaks)(stage, **arguments)
