"""The server as a target: it sends and takes data for `lane speedtest`, and tells about itself.

The data are those of a session, and pass the gates of its user. So the result is what an application would
get, and whatever limits sessions and users limits these, too. A measurement has a longest time, and a user a
most at once.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, time
from typing import Any

import gevent

import lane
from lane import census
from lane.errors import Closed, LaneError, ProtocolError, Status, TargetError
from lane.fair import maybe_yield
from lane.proto.hello import NOWHERE, Request
from lane.session.byte_queue import Buffer
from lane.session.owner import Owner
from lane.session.session import Session
from lane.session.stream_reader import READ_SIZE

MAX_QUESTION = 256
"""The longest line with a question, bytes."""
LONGEST = 30.0
"""The most seconds for which data flow."""
SPARE = 30.0
"""Seconds beyond those, for the question, what is under way and the end."""
PATIENCE = 10.0
"""Seconds without progress after which one ends. A client that vanished holds its place no longer."""
PER_USER = 8
"""Measurements of one user at once: data, and what measures the delay beside it, for several tests."""
MOST = 64
"""Measurements of all users at once."""
_BLOCK = os.urandom(1 << 17)
"""What is sent. No path can compress it."""


class Measurements:
    """An `Offer`: the measurements of all users. `about` has what the server tells about itself."""

    def __init__(self, about: Callable[[], dict[str, Any]] = dict) -> None:
        self._about = about
        self._users: dict[str, int] = {}
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"measurements": len(self)}

    def __len__(self) -> int:
        return sum(self._users.values())

    def __call__(self, request: Request, user: str, authorize: object) -> "MeasureService":
        """Begin one. Raises TargetError if there are too many."""
        if self._users.get(user, 0) >= PER_USER or len(self) >= MOST:
            raise TargetError(Status.FAILURE, "too many measurements at once: try again later")
        self._users[user] = self._users.get(user, 0) + 1
        return MeasureService(self._about, lambda: self._release(user))

    def thaw(self, frozen: object, request: Request, user: str, authorize: object) -> "MeasureService":
        """See `Offer`: what was measured before is in another process."""
        raise TargetError(Status.GONE, "a measurement ends with its process")

    def _release(self, user: str) -> None:
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]


class MeasureService:
    """One measurement: a `Service`. The client's first line is the question, as JSON (docs/PROTOCOL.md)."""

    buffer_size = None
    waits_for_peer = False
    bound = NOWHERE

    def __init__(self, about: Callable[[], dict[str, Any]], release: Callable[[], None]) -> None:
        self.owner = Owner()
        self._about = about
        self._release: Callable[[], None] | None = release

    def run(self, session: Session) -> LaneError | None:
        """See `Service`."""
        self._session = session
        try:
            with _limit(LONGEST + SPARE):
                question, early = self._question(session)
                self._answer(session, question, early)
                session.finish()
                while self._received(session):
                    maybe_yield()
                session.close()
        except LaneError as error:
            session.reset()
            return error
        return session.error

    def suspend(self) -> None:
        """See `Service`."""
        self._session.suspend()
        for gate in (self.owner.gates.up, self.owner.gates.down):
            gate.leave(self._session)

    def freeze(self) -> tuple[dict[str, Any], list[int]]:
        """See `Service`: it does not go on elsewhere."""
        return {}, []

    def reset(self) -> None:
        """See `Service`."""
        release, self._release = self._release, None
        if release:
            release()

    def _answer(self, session: Session, question: dict[str, Any], early: bytes) -> None:
        seconds = question.get("seconds", 0)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST:
            raise ProtocolError(f"a measurement of {seconds!r} seconds")
        match question.get("do"):
            case "about":
                about = {"version": lane.__version__, "time": time(), **self._about()}
                session.sendall(json.dumps(about).encode() + b"\n")
            case "echo":
                while early or (early := bytes(self._received(session))):
                    self._send(session, early)
                    early = b""
            case "down":
                until = monotonic() + seconds
                while monotonic() < until:
                    self._send(session, _BLOCK[: self.owner.gates.down.piece])
                    maybe_yield()
            case "up":
                size = len(early)
                while data := self._received(session):
                    size += len(data)
                    maybe_yield()
                session.sendall(json.dumps({"bytes": size}).encode() + b"\n")
            case other:
                raise ProtocolError(f"no measurement is called {other!r}")

    def _received(self, session: Session, limit: int = READ_SIZE) -> Buffer:
        gate = self.owner.gates.up
        with _limit(PATIENCE):
            data = session.recv(min(limit, gate.piece))
        gate.pay(session, len(data))
        return data

    def _send(self, session: Session, data: bytes) -> None:
        self.owner.gates.down.pay(session, len(data))
        with _limit(PATIENCE):
            session.sendall(data)

    def _question(self, session: Session) -> tuple[dict[str, Any], bytes]:
        """The question, and what came behind it. Raises LaneError."""
        data = b""
        while b"\n" not in data:
            more = self._received(session, MAX_QUESTION)
            data += more
            if not more or (len(data) > MAX_QUESTION and b"\n" not in data):
                raise ProtocolError("expected one line that says what to measure")
        line, _, rest = data.partition(b"\n")
        try:
            question = json.loads(line)
        except (ValueError, RecursionError):
            question = None
        if not isinstance(question, dict):
            raise ProtocolError("expected a JSON object that says what to measure")
        return question, rest


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    with gevent.Timeout(seconds, Closed("a measurement that does not go on")):
        yield
