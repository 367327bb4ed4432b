"""Whether a lane works, and how long an answer takes: one stream over it that carries nothing but PINGs.

It is kept while there are sessions, so that the lane that nobody uses is known as well as the one that
carries, and is asked at once where a session hears nothing. When it falls silent, the server is dialled
afresh beside it, and again every second while sessions wait: what a transport does by itself (QUIC's probes,
the SYNs of TCP) backs off to ten seconds and more.
"""

import logging
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from statistics import median
from time import monotonic

import gevent
from gevent.event import Event
from gevent.queue import Empty, Queue

from lane.carriers.lease import Lease
from lane.carriers.request_stream import NOWHERE, RequestStream
from lane.errors import Closed, Failure, LaneError
from lane.proto.frames import FrameReader, Ping, Pong, pack
from lane.proto.hello import Command, Request
from lane.supervisor import supervise

log = logging.getLogger("lane.carriers")

EVERY = 1.0
"""Seconds between two PINGs while sessions move data."""
SELDOM = 5.0
"""Seconds between two PINGs while sessions are idle."""
UNUSED = 60.0
"""Seconds without a session after which nobody is asked any more."""
GIVE_UP = 1.0
"""Seconds of silence, at least, after which another carrier is dialled."""
DOUBTFUL = 0.25
"""The same where there is a reason to doubt."""
AGAIN = 1.0
"""Seconds between two dials while sessions wait."""
MOST_PAUSE = 60.0
"""Seconds between two dials of a lane that does not work and that nobody waits for."""
ATTEMPT = 4.0
"""Seconds that one attempt may take."""
SPACING, MOST_ATTEMPTS = 0.25, 8
"""Seconds between two attempts, and how many may be under way, however many sessions are in a hurry."""
REMEMBERED = 8
"""PINGs that count."""
BEST_OF = 600.0
"""Seconds for which the shortest round trip is remembered."""


class Probe:
    """`lease(fresh)` gives a stream. `changed` is called when the lane begins or ceases to work.

    `heard` gets the server epoch of each REPLY. `tried` is called when something came of a try.
    """

    def __init__(
        self,
        lease: Callable[[bool], Lease],
        heard: Callable[[bytes], None],
        changed: Callable[[], None],
        tried: Callable[[], None],
    ) -> None:
        self.alive: bool | None = None
        """Whether the lane works; None where nobody asked lately."""
        self.why = ""
        """Why it does not."""
        self.best_rtt: float | None = None
        self._lease = lease
        self._heard = heard
        self._changed = changed
        self._tried = tried
        self.failed = -inf
        """When a try failed last."""
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        self._best_until = 0.0
        self._unanswered: float | None = None  # since when something was asked and nothing came
        self._last_use = -UNUSED
        self._every = EVERY
        self._waited_for = False
        self._doubtful = False
        self._wanted, self._hurry = Event(), Event()
        self._news = Event()  # an answer, or that there is none
        self._prober = supervise("a probe", self._run)

    @property
    def rtt(self) -> float | None:
        """The newest round trip, seconds."""
        return self._times[-1] if self._times else None

    @property
    def delay(self) -> float | None:
        """What a small exchange takes lately, with all that was sent again; seconds."""
        return median(self._times) if self._times else None

    def silence(self, now: float) -> float:
        """Seconds that a lane which worked has given no answer, 0 where none is due."""
        return 0.0 if self.alive is None else self.unanswered(now)

    def unanswered(self, now: float) -> float:
        """Seconds that an answer has been due, on a lane that may never have worked as well."""
        return 0.0 if self._unanswered is None else now - self._unanswered

    def note(self, rtt: float) -> None:
        """A round trip that somebody measured on this lane, seconds."""
        now = monotonic()
        if self.best_rtt is None or rtt < self.best_rtt or now > self._best_until:
            self.best_rtt, self._best_until = rtt, now + BEST_OF

    def want(self, *, active: bool, waited_for: bool) -> None:
        """There are sessions: `active` ones, or even such that wait for a lane that works."""
        self._last_use = monotonic()
        self._every = EVERY if active else SELDOM
        if waited_for and not self._waited_for and not self.alive:
            self._hurry.set()
        self._waited_for = waited_for
        self._wanted.set()

    def check(self) -> None:
        """Ask now: a session hears nothing, or the network has changed."""
        if self._unanswered is None or not self.alive:
            self._hurry.set()

    def ask(self, within: float) -> None:
        """Ask now, and wait until something is known, `within` seconds at most."""
        self._news.clear()
        self.want(active=True, waited_for=self._waited_for)
        self.check()
        self._news.wait(within)

    def doubt(self) -> None:
        """Ask now, and have little patience: what was known may be no longer true."""
        self._doubtful = True
        self._hurry.set()

    def close(self) -> None:
        """Ask no more."""
        self._prober.kill(block=False)

    def _run(self) -> None:
        while True:
            self._wanted.wait()  # no limit: nobody wants to know
            stream = self._reach()
            if stream is not None:
                self._set(True, "")
                try:
                    self._keep_asking(stream)
                    self._rest()
                except LaneError as error:
                    stream.lease.distrust()
                    self._set(False, str(error))
                finally:
                    stream.discard()
                    self._times.clear()

    def _rest(self) -> None:
        """Nobody needs to know any more."""
        self.alive, self.why, self._unanswered = None, "", None

    def _set(self, alive: bool, why: str) -> None:
        self.why = why
        if not alive:
            self.failed = monotonic()
        self._news.set()
        self._tried()
        if alive != self.alive:
            self.alive = alive
            self._changed()

    def _reach(self) -> RequestStream | None:
        """A stream on which the server has answered; None if that is not wanted any more."""
        results: Queue[RequestStream | Failure[LaneError]] = Queue()
        attempts: list[gevent.Greenlet[..., None]] = []
        pause = AGAIN
        if self._unanswered is None:
            self._unanswered = monotonic()
        try:
            while monotonic() - self._last_use < UNUSED:
                self._hurry.clear()
                attempts = [attempt for attempt in attempts if not attempt.dead]
                if len(attempts) >= MOST_ATTEMPTS:  # what began longest ago is the least likely to succeed
                    attempts[0].kill(block=False)
                attempts.append(gevent.spawn(self._attempt, results))
                if (stream := self._result(results, SPACING, hasty=False)) is not None:
                    return stream
                pause = AGAIN if self._waited_for or self.alive is None else min(2 * pause, MOST_PAUSE)
                if (stream := self._result(results, pause * random.uniform(0.8, 1.0))) is not None:  # noqa: S311
                    return stream
            self._wanted.clear()
            self._rest()
            return None
        finally:
            # no limit: none takes long to end, and one may be about to give a result
            gevent.killall(attempts)
            while not results.empty():
                if isinstance(left := results.get_nowait(), RequestStream):
                    left.discard()

    def _result(
        self, results: "Queue[RequestStream | Failure[LaneError]]", pause: float, *, hasty: bool = True
    ) -> RequestStream | None:
        """What comes of the attempts within `pause` seconds, or if `hasty` until there is a hurry."""
        until = monotonic() + pause
        while (left := until - monotonic()) > 0 and not (hasty and self._hurry.is_set()):
            with suppress(Empty):
                result = results.get(timeout=min(left, 0.1))
                if isinstance(result, RequestStream):
                    return result
                self._set(False, str(result))
        return None

    def _attempt(self, results: "Queue[RequestStream | Failure[LaneError]]") -> None:
        stream = None
        try:
            with gevent.Timeout(ATTEMPT, Closed("no answer")):
                fresh = self.alive is False
                stream = RequestStream(self._lease(fresh), Request(Command.PROBE, NOWHERE, 0), ATTEMPT)
                began = monotonic()
                reply = stream.reply()
                self._measured(monotonic() - began)
                self._heard(reply.server_epoch)
                results.put(stream)
                stream = None
        except LaneError as error:
            results.put(Failure.of(error))
        finally:
            if stream is not None:
                stream.discard()

    def _measured(self, rtt: float) -> None:
        self._unanswered = None
        self._news.set()
        self._times.append(rtt)
        self.note(rtt)

    def _keep_asking(self, stream: RequestStream) -> None:
        """PINGs until nobody needs them. Raises LaneError once they are not answered."""
        frames = FrameReader()
        while monotonic() - self._last_use < UNUSED:
            self._hurry.clear()
            self._unanswered = began = monotonic()
            patience = max(DOUBTFUL if self._doubtful else GIVE_UP, 4 * (self.delay or 0.0))
            self._doubtful = False
            with gevent.Timeout(patience, Closed(f"no answer for {patience:.1f} s")):
                stream.sendall(pack(Ping(int(began * 1e6))))
                self._await(stream, frames, int(began * 1e6))
            self._measured(monotonic() - began)
            self._hurry.wait(self._every)

    def _await(self, stream: RequestStream, frames: FrameReader, value: int) -> None:
        while True:
            data = stream.recv()
            if not data:
                raise Closed("the server ended the stream")
            if any(isinstance(frame, Pong) and frame.value == value for frame in frames.feed(data)):
                return
