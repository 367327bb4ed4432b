"""Hours in seconds: gevent's timers and lane's clocks on a time that passes only while nothing else happens.

Whatever is ready runs as ever, on real sockets of this machine too. When nothing is, and no thread of
gevent's is at work, the clock jumps to the next timer. So a test lives through days, and a loop or a machine
that is busy costs no time that anybody measures.
"""

import sys
import time
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any

import gevent

from lane import fair
from lane.net import hangups

ROUNDS = 2
"""Of the event loop in which nothing must happen before the clock moves on."""
NAP = 0.0005
"""Seconds of real time that a round takes in which the kernel may have something under way."""
PATIENCE = 0.1
"""Seconds of naps before the clock moves on by as much or more."""


class Timer:
    """What `loop.timer` gives, as far as gevent and lane use it. Times are seconds."""

    def __init__(self, clock: "VirtualTime", after: float, repeat: float = 0.0) -> None:
        self._clock, self._after, self._repeat = clock, after, repeat
        self.callback: Any = None
        self.args: Any = None
        self.active = False
        self.pending = False
        self._due: Any = None  # the newest entry of the clock: those before it don't count

    def start(self, callback: Any, *args: Any, update: bool = True) -> None:
        self.callback, self.args, self.active = callback, args, True
        self._due = self._clock.schedule(self, self._after)

    def again(self, callback: Any, *args: Any, update: bool = True) -> None:
        self.callback, self.args, self.active = callback, args, True
        self._due = self._clock.schedule(self, self._repeat)

    def fire(self, due: Any) -> None:
        if not self.active or due is not self._due:
            return
        callback, args = self.callback, self.args
        if self._repeat:
            self._due = self._clock.schedule(self, self._repeat)
        else:
            self.stop()
        callback(*args)

    def stop(self) -> None:
        self.callback = self.args = self._due = None
        self.active = False

    close = stop

    def __enter__(self) -> "Timer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Loop:
    """gevent's own, but for its timers."""

    def __init__(self, loop: Any, clock: "VirtualTime") -> None:
        self.__dict__.update(_loop=loop, _clock=clock)

    def run_callback(self, function: Any, *arguments: Any) -> Any:
        self._clock.quiet = 0
        return self._loop.run_callback(function, *arguments)

    def timer(self, after: float, repeat: float = 0.0, ref: bool = True, priority: Any = None) -> Timer:
        return Timer(self._clock, after, repeat)

    def now(self) -> float:
        return self._clock.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loop, name, value)


class VirtualTime:
    """`now`: seconds. It begins where the real clock is, as what was made before has noted times."""

    def __init__(self, patience: float) -> None:
        self.now = time.monotonic()
        self.patience = patience
        self._zero = time.time() - self.now
        hub = gevent.get_hub()
        self._loop, self._threads = hub.loop, hub.threadpool
        self._iteration = 0
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = count()
        self.quiet = 0
        """Rounds of the event loop in which nothing was ready."""

    def time(self) -> float:
        return self._zero + self.now

    def schedule(self, timer: Timer, after: float) -> Any:
        entry = (self.now + max(after, 0.0), next(self._count), timer)
        heappush(self._timers, entry)
        return entry

    def advance(self) -> None:
        """To the next timer that is still wanted, once nothing happens any more."""
        iteration = self._loop.iteration
        self.quiet = self.quiet + 1 if iteration == self._iteration + 1 else 1  # else something was ready
        self._iteration = iteration
        while self._timers and not self._wanted(self._timers[0]):
            heappop(self._timers)
        if self.quiet < ROUNDS:
            return
        step = self._timers[0][0] - self.now if self._timers else inf
        if step == inf or len(self._threads) or (self.quiet - ROUNDS) * NAP < min(self.patience, step):
            time.sleep(NAP)
            return
        self.quiet = 0
        entry = heappop(self._timers)
        self.now = max(self.now, entry[0])
        entry[2].fire(entry)

    @staticmethod
    def _wanted(entry: Any) -> bool:
        timer = entry[2]
        return timer.active and timer._due is entry


@contextmanager
def virtual_time(patience: float = PATIENCE):
    """Has all of lane, and gevent, in this thread live on a VirtualTime until the end of the context.

    `patience`: seconds of real time, at most, in which nothing must happen before the clock moves on; not
    more than it moves on by. Real sockets need some: where the machine is busy, the kernel takes its time.

    Imported modules of lane get its clocks where they use `monotonic` or `time` of the module `time`.
    """
    clock, hub = VirtualTime(patience), gevent.get_hub()
    real = hub.loop
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("lane", "lane_quic", "lane_tls"):
            for function, ours in (("monotonic", _monotonic), ("time", _time)):
                if getattr(module, function, None) is getattr(time, function):
                    setattr(module, function, ours)
    idle = real.idle()
    idle.start(clock.advance)
    hub.loop = _Loop(real, clock)
    _clocks.append(clock)
    try:
        yield clock
    finally:
        _clocks.remove(clock)
        hub.loop = real
        idle.stop()
        idle.close()
        watched = hangups._hangups  # of the whole process, and its timer would never fire any more
        if watched is not None and isinstance(watched._timer, Timer):
            watched._begin()
        fair.pass_turn()  # or the round would have begun in a future, and nobody would give way until then


_clocks: list[VirtualTime] = []  # at most one


def _monotonic() -> float:
    """What modules of lane have from the first VirtualTime on: tests may have kept it, to put it back."""
    return _clocks[0].now if _clocks else time.monotonic()


def _time() -> float:
    return _clocks[0].time() if _clocks else time.time()
