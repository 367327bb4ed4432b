"""The probe of a lane: one stream that carries only PINGs. It shows whether the lane works, and how fast.

Every lane is probed while there are sessions, so unused lanes are measured too. If a session gets no answer,
the probe sends a PING at once. If the probe gets no answer either, it dials the server again, and repeats
that every second while sessions wait. The transports' own retries (QUIC's probes, TCP's SYNs) are too slow
for that: they back off to ten seconds and more.
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
from lane.carriers.request_stream import RequestStream
from lane.errors import Closed, Failure, LaneError
from lane.proto.frames import FrameReader, Ping, Pong, pack
from lane.proto.hello import NOWHERE, Command, Request
from lane.supervisor import supervise

log = logging.getLogger("lane.carriers")

EVERY = 1.0
"""Seconds between two PINGs while sessions move data."""
SELDOM = 5.0
"""Seconds between two PINGs while sessions are idle."""
UNUSED = 60.0
"""Seconds without a session after which the probe pauses."""
GIVE_UP = 1.0
"""Seconds without an answer to a PING after which another carrier is dialled; more on a long path."""
DOUBTFUL = 0.25
"""The same, for the first PING after a change of the network."""
AGAIN = 1.0
"""Seconds between two dials while sessions wait."""
MOST_PAUSE = 60.0
"""Maximum number of seconds between two dials of a dead lane that no session waits for."""
ATTEMPT = 4.0
"""Seconds that one attempt may take."""
SPACING = 0.25
"""Minimum number of seconds between two attempts, however many sessions wait."""
MOST_ATTEMPTS = 8
"""Maximum number of attempts at the same time."""
REMEMBERED = 8
"""Number of PINGs over which the delay is the median."""
BEST_OF = 600.0
"""Seconds for which the shortest round trip is remembered."""


class Probe:
    """The probe of one lane. `lease(fresh)` returns a stream, on a new carrier if `fresh`.

    `changed` is called when the lane starts or stops working, `heard` with the server epoch of each REPLY,
    and `tried` when an attempt has succeeded or failed.
    """

    def __init__(
        self,
        lease: Callable[[bool], Lease],
        heard: Callable[[bytes], None],
        changed: Callable[[], None],
        tried: Callable[[], None],
    ) -> None:
        self.alive: bool | None = None
        """Whether the lane works; None if there was no probe lately."""
        self.why = ""
        """Why the lane does not work."""
        self.best_rtt: float | None = None
        """The shortest round trip of the last BEST_OF seconds, in seconds."""
        self._lease = lease
        self._heard = heard
        self._changed = changed
        self._tried = tried
        self.failed = -inf
        """The time of the last failure (`time.monotonic`)."""
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        self._best_until = 0.0
        self._unanswered: float | None = None  # since when a PING or a dial has had no answer
        self._last_use = -UNUSED
        self._every = EVERY
        self._waited_for = False
        self._doubtful = False
        self._wanted, self._hurry = Event(), Event()
        self._news = Event()  # an answer came, or an attempt failed
        self._prober = supervise("a probe", self._run)

    @property
    def rtt(self) -> float | None:
        """The last round trip in seconds."""
        return self._times[-1] if self._times else None

    @property
    def delay(self) -> float | None:
        """The usual duration of a small exchange in seconds, including retransmissions."""
        return median(self._times) if self._times else None

    def silence(self, now: float) -> float:
        """Seconds that an answer has been due; 0 if none is, or if `alive` is None."""
        return 0.0 if self.alive is None else self.unanswered(now)

    def unanswered(self, now: float) -> float:
        """Seconds that an answer has been due, even if the lane has never worked; 0 if none is due."""
        return 0.0 if self._unanswered is None else now - self._unanswered

    def note(self, rtt: float) -> None:
        """Note a round trip in seconds that was measured on this lane."""
        now = monotonic()
        if self.best_rtt is None or rtt < self.best_rtt or now > self._best_until:
            self.best_rtt, self._best_until = rtt, now + BEST_OF

    def want(self, *, active: bool, waited_for: bool) -> None:
        """Note that there are sessions. `active`: some move data. `waited_for`: some wait for a lane."""
        self._last_use = monotonic()
        self._every = EVERY if active else SELDOM
        if waited_for and not self._waited_for and not self.alive:
            self._hurry.set()
        self._waited_for = waited_for
        self._wanted.set()

    def check(self) -> None:
        """Send a PING or dial now, because a session gets no answer."""
        if self._unanswered is None or not self.alive:
            self._hurry.set()

    def ask(self, within: float) -> None:
        """Send a PING or dial now, and wait at most `within` seconds for the result."""
        self._news.clear()
        self.want(active=True, waited_for=self._waited_for)
        self.check()
        self._news.wait(within)

    def doubt(self) -> None:
        """Send a PING or dial now, and wait only briefly, because the network has changed."""
        self._doubtful = True
        self._hurry.set()

    def close(self) -> None:
        """Stop the probe."""
        self._prober.kill(block=False)

    def _run(self) -> None:
        while True:
            self._wanted.wait()  # no limit: there is no session
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
        """Forget the state of the lane, because there are no sessions any more."""
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
        """Make attempts until one succeeds. Returns its stream, or None if there are no sessions any more."""
        results: Queue[RequestStream | Failure[LaneError]] = Queue()
        attempts: list[gevent.Greenlet[..., None]] = []
        pause = AGAIN
        if self._unanswered is None:
            self._unanswered = monotonic()
        try:
            while monotonic() - self._last_use < UNUSED:
                self._hurry.clear()
                attempts = [attempt for attempt in attempts if not attempt.dead]
                if len(attempts) >= MOST_ATTEMPTS:  # the oldest is the least likely to succeed
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
            # no limit: each ends soon, and may have a result that must be discarded below
            gevent.killall(attempts)
            while not results.empty():
                if isinstance(left := results.get_nowait(), RequestStream):
                    left.discard()

    def _result(
        self, results: "Queue[RequestStream | Failure[LaneError]]", pause: float, *, hasty: bool = True
    ) -> RequestStream | None:
        """Wait `pause` seconds for a stream of an attempt. `hasty`: stop early if `_hurry` is set."""
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
        """Send PINGs while there are sessions. Raises LaneError if one is not answered."""
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
