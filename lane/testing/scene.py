"""The harness of the tests with strangers: a listener in use, its clients, and a check for leaks."""

import gc
import io
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any

import gevent
import pytest
from gevent.pool import Group

from lane import census
from lane.errors import Closed
from lane.stream import Address, Carrier, Listener
from lane.testing.harness import Kit, echo, exchange, outcome, pattern
from lane.testing.raw import Recording, Stranger, record

MANY = 64
"""Strangers at once. A listener that served them one by one, a second each, would serve no client in time."""
ATTENTION = 20.0
"""Seconds in which a genuine client must be served among them, even on a busy machine."""
LEFT = 40.0
"""Seconds after which a stranger that left must have no state. Over UDP only idleness shows that it left."""

_BETWEEN = 0.1  # seconds between two checks of what the process holds


class House:
    """Accepts carriers as a server does. It echoes their streams, and closes ended carriers."""

    def __init__(self, listener: Listener) -> None:
        self.guests = 0
        """The number of accepted carriers."""
        self._tasks = Group()
        self._tasks.spawn(self._take_in, listener)

    def close(self) -> None:
        """End all its greenlets."""
        self._tasks.kill()

    def _take_in(self, listener: Listener) -> None:
        with suppress(Closed):
            while True:
                carrier = listener.accept()
                self.guests += 1
                self._tasks.spawn(self._serve, carrier)

    def _serve(self, carrier: Carrier) -> None:
        try:
            while True:
                self._tasks.spawn(outcome, echo, carrier.accept())
        except Closed:
            pass
        finally:
            carrier.close()


class Scene:
    """The kit's listener with a `House` behind it, and a neighbour: a client that connected before."""

    def __init__(self, kit: Kit, recording: Recording) -> None:
        assert recording.kind is not None
        self.kit, self.recording, self.kind = kit, recording, recording.kind
        self.come = 0
        """The number of strangers so far."""
        self._house = House(kit.listener)
        self._neighbour = kit.open()
        self._visits = 0
        self._strangers: list[Any] = []
        self.visit()
        self._before = taken()

    def close(self) -> None:
        """End everything but the listener, which the kit closes."""
        for group in self._strangers:
            group.kill()
        self._house.close()

    def visit(self) -> None:
        """Check that a genuine client is served in time, and so is the neighbour."""
        late = AssertionError(f"a right client was not served within {ATTENTION:g} seconds")
        with gevent.Timeout(ATTENTION, late):
            carrier = self.kit.transport.dial(self.kit.listener.address, self.kit.client_tls)
            data = pattern(10_000)
            assert exchange(carrier.open(), data) == data
            carrier.close()
            self._neighbour.sendall(b"?")
            assert self._neighbour.recv(1) == b"?"
        self._visits += 1

    def strangers(self, act: Callable[[int, Stranger], None], at: Address | None = None) -> Any:
        """Let MANY strangers connect to the kit's listener, or to `at`, and call `act(number, stranger)`."""
        group = Group()
        self._strangers.append(group)

        def come(number: int) -> None:
            stranger = Stranger(self.kind, at or self.kit.listener.address)
            self.come += 1
            try:
                act(number, stranger)
            finally:
                stranger.leave("close")

        for number in range(MANY):
            group.spawn(come, number)
        return group

    def beginnings(self) -> list[list[bytes]]:
        """Incomplete handshakes of a client. Skips the test if a client sends nothing in its handshake."""
        found = self.recording.beginnings(of_client=True)
        if not found:
            pytest.skip("a client says nothing in its handshake")
        return found

    def skip_unless_there_is(self, leave: str) -> None:
        """Skip the test if the transport's sockets cannot leave in this way: UDP has only `close`."""
        if self.kind == "udp" and leave != "close":
            pytest.skip("UDP has no way to leave")

    def all_is_well(self) -> None:
        """Check that genuine clients are served, that no stranger was accepted, and that nothing leaks."""
        for _ in range(3):
            self.visit()
        if self.recording.flights(of_client=True):  # otherwise connecting is the whole handshake
            assert self._house.guests == 1 + self._visits, "the listener gave out a half-made carrier"
        nothing_left(self._before)


@contextmanager
def staged(kit: Kit) -> Iterator[Scene]:
    """A scene with the kit's listener. Fails on hidden errors. Skips the test if there is no real network."""
    recording = record(kit.transport, kit.listener.address, kit.server_tls, kit.client_tls)
    if recording.kind is None:
        pytest.skip("neither TCP nor UDP is below this transport")
    with watched():
        scene = Scene(kit, recording)
        try:
            yield scene
        finally:
            scene.close()


def taken() -> dict[str, int]:
    """The counts of what the process holds, once they are stable."""
    last, before = _held(), None
    while last != before:
        gevent.sleep(_BETWEEN)
        last, before = _held(), last
    return last


def nothing_left(before: dict[str, int]) -> None:
    """Wait until the process holds no more than `before`."""
    more: list[str] = []
    with gevent.Timeout(LEFT, False):
        while more := _grown(before):
            gevent.sleep(_BETWEEN)
    assert not more, "something is left of who is gone"


def _grown(before: dict[str, int]) -> list[str]:
    found = [(name, before.get(name, 0), number) for name, number in _held().items()]
    return [f"{name}: {then} -> {now}" for name, then, now in found if now > then]


_VARIES = ("objects", "blocks", "heap", "threads")
"""Counts that vary with the interpreter, and so say nothing about a connection."""


def _held() -> dict[str, int]:
    gc.collect()
    found = census.take()
    return {name: number for name, number in found.items() if name not in _VARIES}


@contextmanager
def watched() -> Iterator[None]:
    """Fail on hidden errors: an error in the log, or an uncaught exception."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(self.format(record))

    handler = Handler(logging.ERROR)
    hub: Any = gevent.get_hub()

    def handle_error(context: object, kind: Any, value: Any, trace: Any) -> None:
        if not issubclass(kind, hub.NOT_ERROR):
            found.append(f"{context}\n{''.join(traceback.format_exception(kind, value, trace))}")

    said = io.StringIO()
    hub.handle_error = handle_error
    logging.getLogger().addHandler(handler)
    try:
        with redirect_stderr(said):
            yield
    finally:
        del hub.handle_error
        logging.getLogger().removeHandler(handler)
    assert not found, "\n".join(found)
    assert "Traceback" not in said.getvalue(), said.getvalue()
