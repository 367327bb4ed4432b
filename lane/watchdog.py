"""The watchdog logs which functions block the event loop. All connections stall then, for no visible reason.

A thread checks four times a second whether the loop has run, and what the main thread is doing. It costs no
more than that. gevent's own monitor (`GEVENT_MONITOR_THREAD_ENABLE`) traces each switch between greenlets and
prints to standard error.
"""

import logging
import sys
import threading
import time
from time import monotonic
from types import FrameType

from gevent.hub import Hub

from lane.fair import this_round
from lane.log import Throttle
from lane.supervisor import Owner

LIMIT = 1.0
"""Seconds that the event loop may be blocked."""
LOOKS = 4
"""Checks in that time."""
SHOWN = 4
"""The most functions that a warning names, the innermost first."""

log = logging.getLogger("lane.watchdog")


class Watchdog:
    """Watches the event loop of the thread that creates it, until `close`. `limit` is in seconds."""

    def __init__(self, owner: Owner = lambda _: None, limit: float = LIMIT) -> None:
        self._owner = owner
        self._limit = limit
        self._watched = threading.get_ident()
        self._round = this_round()
        self._closed = threading.Event()
        self._throttle = Throttle()
        self._thread = threading.Thread(target=self._run, name="lane-watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop. Idempotent."""
        self._closed.set()

    def _run(self) -> None:
        seen, cpu, told = 0.0, time.process_time(), 0.0
        while not self._closed.wait(self._limit / LOOKS):
            now, began, cpu_before, cpu = monotonic(), self._round.began, cpu, time.process_time()
            frame = sys._current_frames().get(self._watched)
            if frame is None:  # the thread has ended
                return
            still = now - began
            # One check is not enough, since the whole process may have been stopped. But C code that holds
            # the interpreter lock allows no check until it is done. It uses CPU time, which shows it.
            sure = began == seen > 0 or cpu - cpu_before > self._limit / 2
            if began != seen and told:
                log.warning("the event loop goes on: it stood still for %.1f s", told)
                told = 0.0
            if (
                frame.f_code is not Hub.run.__code__ and still >= self._limit and sure
            ):  # the loop waits for events there
                if not told:
                    self._tell(frame, still)
                told = still
            seen = began
            del frame  # it refers to all local variables

    def _tell(self, frame: FrameType, seconds: float) -> None:
        """Log the functions that block the event loop, and the plugin of the innermost one."""
        where: list[str] = []
        plugin = ""
        at: FrameType | None = frame
        while at is not None:
            code = at.f_code
            if len(where) < SHOWN:
                where.append(f"{code.co_qualname} ({code.co_filename}:{at.f_lineno})")
            plugin = plugin or self._owner(code.co_filename) or ""
            at = at.f_back
        if self._throttle.allows(frame.f_code) is not None:
            whose = f", of the plugin {plugin}" if plugin else ""
            log.warning(
                "the event loop has stood still for %.1f s, in %s%s",
                seconds,
                ", called by ".join(where),
                whose,
            )
