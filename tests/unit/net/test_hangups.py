"""lane/net/hangups.py: who is told of a connection that broke, and what short connections cost."""

import socket
import struct

import gevent
import pytest
from gevent.event import Event

from lane.net import hangups
from lane.testing.harness import until
from tests.support.virtual_time import virtual_time

RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def pair():
    """Two ends of a connection of TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other = listener.accept()[0]
    with one, other:
        yield one, other
        hangups.forget(one.fileno())


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


@pytest.fixture
def begun():
    """Waits until what is new is watched."""
    return lambda: until(lambda: not hangups._hangups._new)


@pytest.mark.parametrize("early", [True, False])
def test_a_break_is_told_once(pair, begun, early):
    one, other = pair
    told, calls = Event(), []
    hangups.watch(one.fileno(), lambda: (calls.append(1), told.set()))
    if not early:
        begun()
    reset(other)
    assert told.wait(10)
    begun()
    gevent.idle()
    assert calls == [1]


def test_a_clock_that_is_only_a_tests_leaves_the_watch_at_work(pair):
    one, other = pair
    told = Event()
    with virtual_time():
        hangups.watch(one.fileno(), told.set)
    reset(other)
    assert told.wait(10)


@pytest.mark.parametrize("early", [True, False])
def test_who_forgot_is_told_nothing(pair, begun, early):
    one, other = pair
    calls = []
    hangups.watch(one.fileno(), lambda: calls.append(1))
    if not early:
        begun()
    hangups.forget(one.fileno())
    reset(other)
    begun()
    other_told(begun)
    assert not calls


def other_told(begun):
    """A second connection breaks, and that is told: so the event loop had its look."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other = listener.accept()[0]
    told = Event()
    with one:
        hangups.watch(one.fileno(), told.set)
        reset(other)
        assert told.wait(10)
        hangups.forget(one.fileno())


def test_a_descriptor_that_is_used_again_is_its_new_owners(pair):
    one, other = pair
    before, now = [], Event()
    hangups.watch(one.fileno(), lambda: before.append(1))
    hangups.forget(one.fileno())
    hangups.watch(one.fileno(), now.set)
    reset(other)
    assert now.wait(10)
    assert not before


def test_a_connection_that_is_soon_over_is_not_watched(pair, begun, monkeypatch):
    one, _ = pair
    hangups.watch(one.fileno(), lambda: None)
    begun()  # whatever others left behind
    hangups.forget(one.fileno())
    watched = []
    kernel = hangups._hangups._set
    monkeypatch.setattr(hangups._hangups, "_set", Counting(kernel, watched))
    for _ in range(100):
        hangups.watch(one.fileno(), lambda: None)
        hangups.forget(one.fileno())
    begun()
    assert not watched
    assert not hangups._hangups._calls.get(one.fileno())


class Counting:
    def __init__(self, kernel, watched):
        self._kernel, self._watched = kernel, watched

    def register(self, fd, events):
        self._watched.append(fd)
        self._kernel.register(fd, events)

    def __getattr__(self, name):
        return getattr(self._kernel, name)
