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
from typing import Any

import gevent
import pytest

ROUNDS = 2
"""Of the event loop in which nothing must happen before the clock moves on."""


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

    def __init__(self) -> None:
        self.now = time.monotonic()
        self._zero = time.time() - self.now
        self._threads = gevent.get_hub().threadpool
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = count()
        self.quiet = 0
        """Rounds of the event loop in which nothing was ready."""

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self._zero + self.now

    def schedule(self, timer: Timer, after: float) -> Any:
        entry = (self.now + max(after, 0.0), next(self._count), timer)
        heappush(self._timers, entry)
        return entry

    def advance(self) -> None:
        """To the next timer that is still wanted, once nothing happens any more."""
        self.quiet += 1
        if self.quiet < ROUNDS or len(self._threads):
            return
        self.quiet = 0
        while self._timers:
            entry = heappop(self._timers)
            timer = entry[2]
            if timer.active and timer._due is entry:
                self.now = max(self.now, entry[0])
                timer.fire(entry)
                return


@contextmanager
def virtual_time():
    """Has all of lane, and gevent, in this thread live on a VirtualTime until the end of the context.

    Imported modules of lane get its clocks where they use `monotonic` or `time` of the module `time`.
    """
    clock, hub = VirtualTime(), gevent.get_hub()
    real = hub.loop
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in ("lane", "lane_quic", "lane_tls"):
                for function in ("monotonic", "time"):
                    if getattr(module, function, None) is getattr(time, function):
                        patch.setattr(module, function, getattr(clock, function))
        idle = real.idle()
        idle.start(clock.advance)
        hub.loop = _Loop(real, clock)
        try:
            yield clock
        finally:
            hub.loop = real
            idle.stop()
            idle.close()
