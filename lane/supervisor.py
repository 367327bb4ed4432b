"""Supervision of the loops that run as long as the process: a loop that fails is reported and restarted.

If such a greenlet died unnoticed, its work would stop: no timeouts, no new connections, no measurements of a
path. So each of these loops runs here. Its exception is logged with the name of the loop, and the loop is
called again after a pause. The pause grows with repeated failures.

Exceptions of all other greenlets go to the same log. gevent would print them to standard error. If that is a
pipe that nobody reads, the write would block the whole process.
"""

import logging
import sys
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent import Greenlet, GreenletExit, get_hub

from lane.log import Throttle
from lane.tested import is_tested, lacking, tell

LEAST_PAUSE = 0.1
"""Seconds from the first failure of a loop to its next call. The pause doubles with each failure."""
MOST_PAUSE = 30.0
"""The longest such pause, seconds."""
STEADY = 60.0
"""Seconds without a failure that reset the pause to the shortest one."""

FAULTS = (Exception, gevent.Timeout, SystemExit)
"""Exceptions that end one task and not the process. A leaked Timeout and a plugin's exit() are bugs too."""

GEVENT = ("26.9",)
"""Versions of gevent that lane was tested with."""
GREENLET = ("_run",)
"""Private names of gevent's greenlets used here: `_run` is the function of a greenlet, for the log."""

Owner = Callable[[str], str | None]
"""Returns the name of the plugin that a source file belongs to; None for all other files."""

log = logging.getLogger("lane.supervisor")
_owners: list[Owner] = []  # at most one
_throttle = Throttle()


def supervise(name: str, run: Callable[..., object], *arguments: object) -> "Greenlet[..., None]":
    """Call `run(*arguments)` in a new greenlet, and again after each exception, until it returns.

    `name` appears in the log. The owner kills the greenlet at the end.
    """
    return gevent.spawn(_supervise, name, partial(run, *arguments))


def _supervise(name: str, run: Callable[[], object]) -> None:
    pause = LEAST_PAUSE
    while True:
        began = monotonic()
        try:
            run()
        except FAULTS as error:
            report(name, error)
        except GreenletExit:  # it would stay as the greenlet's value, with all frames that it passed
            return
        else:
            return
        if monotonic() - began > STEADY:
            pause = LEAST_PAUSE
        gevent.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE)


def report(name: str, error: BaseException) -> None:
    """Log that `name` failed with `error`, with the traceback. The same failure is logged once a minute.

    If the code of a plugin raised the error, the log names the plugin.
    """
    if (missed := _throttle.allows((name, type(error)))) is not None:
        plugin = next((culprit(error, owner) for owner in _owners), None)
        whose = f" in the plugin {plugin}" if plugin else ""
        again = f" (and {missed} times before that)" if missed else ""
        log.error("%s failed%s%s", name, whose, again, exc_info=error)


def culprit(error: BaseException, owner: Owner) -> str | None:
    """The plugin whose code raised `error`: that of the innermost frame in a plugin's source file."""
    found, trace = None, error.__traceback__
    while trace is not None:
        found = owner(trace.tb_frame.f_code.co_filename) or found
        trace = trace.tb_next
    return found


def report_all(owner: Owner) -> None:
    """Send uncaught exceptions of this thread's greenlets and of other threads to the log.

    Before that, libraries that lane was not tested with are logged.
    """
    _owners[:] = [owner]
    is_tested("gevent", GEVENT, missing=lacking(Greenlet(), GREENLET))
    tell()
    hub: Any = get_hub()
    hub.print_exception = _print_exception
    hub.NOT_ERROR = (GreenletExit,)
    hub.SYSTEM_ERROR = (KeyboardInterrupt,)  # no other exception of a greenlet ends the process
    threading.excepthook = _thread_failed
    sys.unraisablehook = _unraisable


def _thread_failed(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        report(f"the thread {what.thread.name if what.thread else '?'}", what.exc_value)


def _unraisable(what: Any) -> None:
    """Report an exception of a finaliser: see `sys.unraisablehook`."""
    report(what.err_msg or "a finaliser", what.exc_value or what.exc_type())


def _print_exception(context: Any, kind: Any, error: Any, trace: Any) -> None:
    """Replaces `gevent.hub.Hub.print_exception`. It must not raise."""
    if not isinstance(error, BaseException):
        error = kind(error)
    if error.__traceback__ is None:
        error.__traceback__ = trace
    report(f"the task {_name(context, trace)}", error)


def _name(context: Any, trace: Any) -> str:
    """The name of the failed function: that of the greenlet or task, or else the one that was called."""
    run = getattr(context, "_run", None) or getattr(context, "task", None)
    while isinstance(run, partial):
        run = run.func
    called = trace.tb_frame.f_code.co_qualname if trace else "?"
    return str(getattr(run, "__qualname__", called))
