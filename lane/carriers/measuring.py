"""Measuring the way to the server: goodput in both directions, and the delay beside it.

The server itself is the target (`lane.server.measuring`). So no third party is involved, and data travel as
those of applications do.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from statistics import fmean, median
from time import monotonic
from typing import Any

import gevent

from lane.carriers.connector import TunnelConnector
from lane.carriers.tunnels import TunnelMeasurement
from lane.errors import Closed, LaneError, ProtocolError, Status, TargetError
from lane.fair import maybe_yield
from lane.stream import Stream
from lane.supervisor import supervise

WARM = 1.0
"""Seconds at the beginning of a flow that do not count: the rate still grows."""
PATIENCE = 15.0
"""Seconds beyond its time that a flow may take for its last answer."""
EVERY = 0.05
"""Seconds between two questions about the delay."""
ANSWER = 3.0
"""Seconds after which such a question counts as unanswered."""
GOODBYE = 3.0
"""Seconds for the end of a measurement in good order."""
AHEAD = 2.0
"""Seconds of data that are sent ahead of what the server has consumed, so that the end comes soon."""
LEAST_AHEAD = 1 << 20
"""Bytes that are always sent ahead."""
_BLOCK = os.urandom(1 << 17)
_MAX_ANSWER = 4096

Progress = Callable[[float, float], None]
"""Called while data flow: with the part of the time that is over (0 to 1), and the rate, bytes a second."""


class TooOld(LaneError):
    """The server does not know measurements."""


@dataclass
class Flow:
    """What moved in one direction."""

    rate: float
    """Bytes a second, without the beginning."""
    size: int
    """All bytes."""
    loss: float | None
    """The fraction (0 to 1) of bytes that was lost on the way or sent again."""


@dataclass
class Delays:
    """Round trips of small messages, seconds, in their order."""

    trips: list[float] = field(default_factory=list)
    unanswered: int = 0
    """Messages without an answer in time."""

    @property
    def median(self) -> float | None:
        """The middle one."""
        return median(self.trips) if self.trips else None

    @property
    def jitter(self) -> float | None:
        """The mean difference between one and the next (as in RFC 3550 section 6.4.1), seconds."""
        steps = [abs(after - before) for before, after in zip(self.trips, self.trips[1:], strict=False)]
        return fmean(steps) if steps else None


def about(connector: TunnelConnector) -> tuple[dict[str, Any], float, float]:
    """What the server tells about itself, and when it was asked and had answered (`time.monotonic`).

    Raises LaneError.
    """
    with _asked(connector, {"do": "about"}) as (_, stream):
        asked = monotonic()
        answer = _answer(stream)
        return answer, asked, monotonic()


def down(connector: TunnelConnector, seconds: float, progress: Progress) -> Flow:
    """Receive for `seconds`. Raises LaneError."""
    with _asked(connector, {"do": "down", "seconds": seconds}) as (measurement, stream):
        meter, losses = _Meter(seconds, progress), None
        with gevent.Timeout(seconds + PATIENCE, Closed("the server does not stop sending")):
            while data := stream.recv():
                meter.add(len(data))
                losses = measurement.losses()[1] or losses
                maybe_yield()
        return meter.flow(losses)


def up(connector: TunnelConnector, seconds: float, progress: Progress) -> Flow:
    """Send for `seconds`. Raises LaneError."""
    with _asked(connector, {"do": "up", "seconds": seconds}) as (measurement, stream):
        meter, losses = _Meter(seconds, progress), None
        before, sent = measurement.consumed, 0
        with gevent.Timeout(seconds + PATIENCE, Closed("the server does not take what is sent")):
            while meter.elapsed < seconds:
                meter.reach(measurement.consumed - before)
                if sent - meter.size > max(LEAST_AHEAD, AHEAD * meter.rate()):
                    gevent.sleep(0.005)
                    continue
                stream.sendall(_BLOCK)
                sent += len(_BLOCK)
                losses = measurement.losses()[0] or losses
                maybe_yield()
        return meter.flow(losses)


@contextmanager
def delays(connector: TunnelConnector) -> Iterator[Delays]:
    """Measure round trips while the context lasts. Raises LaneError if it can't begin."""
    with _asked(connector, {"do": "echo"}) as (_, stream):
        found = Delays()
        asking = supervise("the questions of a measurement", _keep_asking, stream, found)
        try:
            yield found
        finally:
            asking.kill()  # no limit: it only waits


def _keep_asking(stream: Stream, found: Delays) -> None:
    with suppress(LaneError):
        while True:
            began = monotonic()
            question = os.urandom(8)
            try:
                with gevent.Timeout(ANSWER):
                    stream.sendall(question)
                    answer = b""
                    while len(answer) < len(question):
                        more = stream.recv(len(question) - len(answer))
                        if not more:
                            return
                        answer += more
            except gevent.Timeout:
                found.unanswered += 1
                return  # a later answer would be taken for another one
            found.trips.append(monotonic() - began)
            gevent.sleep(max(0.0, EVERY - (monotonic() - began)))


@contextmanager
def _asked(
    connector: TunnelConnector, question: dict[str, Any]
) -> Iterator[tuple[TunnelMeasurement, Stream]]:
    """A measurement that was asked for, which ends with the context. Raises LaneError."""
    try:
        measurement = connector.measure()
    except TargetError as error:
        if error.status is Status.COMMAND_NOT_SUPPORTED:
            raise TooOld("the server is too old for measurements: update lane there") from None
        raise
    stream = measurement.begin()
    try:
        stream.sendall(json.dumps(question).encode() + b"\n")
        yield measurement, stream
    finally:
        # If it ends in good order, its place at the server is free at once.
        with suppress(LaneError), gevent.Timeout(GOODBYE, Closed("")):
            stream.finish()
            while stream.recv():
                maybe_yield()
            stream.close()
        measurement.abort()


def _answer(stream: Stream) -> dict[str, Any]:
    """The server's line. Raises LaneError."""
    data = b""
    with gevent.Timeout(PATIENCE, Closed("the server does not answer the measurement")):
        while b"\n" not in data and len(data) < _MAX_ANSWER and (more := stream.recv(_MAX_ANSWER)):
            data += more
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ProtocolError("the server's answer about itself is none")
    return answer


class _Meter:
    """Counts the bytes of one direction for `seconds`."""

    def __init__(self, seconds: float, progress: Progress) -> None:
        self._seconds = seconds
        self._progress = progress
        self._began = self._told = monotonic()
        self._warm: tuple[float, int] | None = None
        self._last = self._began
        self.size = 0
        """Bytes up to now."""

    @property
    def elapsed(self) -> float:
        return monotonic() - self._began

    def add(self, size: int) -> None:
        self.reach(self.size + size)

    def reach(self, size: int) -> None:
        """Note that `size` bytes have moved up to now."""
        now = monotonic()
        if size > self.size:
            self.size, self._last = size, now
        if self._warm is None and now - self._began >= min(WARM, self._seconds / 4):
            self._warm = now, size
        if now - self._told >= 0.1:
            self._told = now
            self._progress(min(1.0, (now - self._began) / self._seconds), self.rate())

    def rate(self) -> float:
        """Bytes a second up to now, without the beginning."""
        since, before = self._warm or (self._began, 0)
        return (self.size - before) / (self._last - since) if self._last > since else 0.0

    def flow(self, losses: tuple[int, int] | None) -> Flow:
        sent, lost = losses or (0, 0)
        return Flow(self.rate(), self.size, lost / sent if sent else None)
