"""Loops that live as long as the process: one that fails is reported, and goes on.

A greenlet that dies takes with it whatever it looked after, and nobody notices: no time-outs any more, no
new connections, no news of a path. So each such loop runs here. Its exception is logged once, with the name
of the loop, and the loop is called again, after a pause that grows while it fails again and again.

What other greenlets raise ends in the same log. gevent would print it on standard error, and a pipe there
that nobody reads blocks the whole process.
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

LEAST_PAUSE, MOST_PAUSE = 0.1, 30.0
"""Seconds until a loop that failed is called again; they double with each failure."""
STEADY = 60.0
"""Seconds without a failure after which the next pause is the least one again."""

FAULTS = (Exception, gevent.Timeout, SystemExit)
"""What ends one task: a Timeout that leaks is a bug as any other, and so is a plugin's exit()."""

GEVENT = ("26.9",)
"""Versions of gevent that the tests have run with."""
GREENLET = ("_run",)
"""What is private in gevent and used here: what a greenlet runs. The log names it."""

Owner = Callable[[str], str | None]
"""The plugin that a source file is of; None for all other files."""

log = logging.getLogger("lane.supervisor")
_owners: list[Owner] = []  # at most one
_throttle = Throttle()


def supervise(name: str, run: Callable[..., object], *arguments: object) -> "Greenlet[..., None]":
    """Call `run(*arguments)` until it returns: again after each exception. `name` is for the log.

    It starts soon, beside the caller; the owner kills the greenlet in the end.
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
        else:
            return
        if monotonic() - began > STEADY:
            pause = LEAST_PAUSE
        gevent.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE)


def report(name: str, error: BaseException) -> None:
    """Log that `name` failed with `error`, with its traceback: the same failure once a minute at most.

    Where the fault is in the code of a plugin, that is named as well.
    """
    if (missed := _throttle.allows((name, type(error)))) is not None:
        plugin = next((culprit(error, owner) for owner in _owners), None)
        whose = f" in the plugin {plugin}" if plugin else ""
        again = f" (and {missed} times before that)" if missed else ""
        log.error("%s failed%s%s", name, whose, again, exc_info=error)


def culprit(error: BaseException, owner: Owner) -> str | None:
    """The plugin whose code raised `error`: the innermost function of one, by its source file."""
    found, trace = None, error.__traceback__
    while trace is not None:
        found = owner(trace.tb_frame.f_code.co_filename) or found
        trace = trace.tb_next
    return found


def report_all(owner: Owner) -> None:
    """Have the log get what greenlets of this thread, and other threads, raise and nobody waits for.

    It hears first of libraries that lane was not tested with.
    """
    _owners[:] = [owner]
    is_tested("gevent", GEVENT, missing=lacking(Greenlet(), GREENLET))
    tell()
    hub: Any = get_hub()
    hub.print_exception = _print_exception
    hub.NOT_ERROR = (GreenletExit,)  # and what else comes up in a task does not end the process:
    hub.SYSTEM_ERROR = (KeyboardInterrupt,)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _unraisable


def _thread_failed(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        report(f"the thread {what.thread.name if what.thread else '?'}", what.exc_value)


def _unraisable(what: Any) -> None:
    """See `sys.unraisablehook`: what a finaliser raises."""
    report(what.err_msg or "a finaliser", what.exc_value or what.exc_type())


def _print_exception(context: Any, kind: Any, error: Any, trace: Any) -> None:
    """See `gevent.hub.Hub.print_exception`, which this replaces. It must not raise."""
    if not isinstance(error, BaseException):
        error = kind(error)
    if error.__traceback__ is None:
        error.__traceback__ = trace
    report(f"the task {_name(context, trace)}", error)


def _name(context: Any, trace: Any) -> str:
    """Of what failed: a Greenlet knows what it runs, and so does a task; else what was called."""
    run = getattr(context, "_run", None) or getattr(context, "task", None)
    while isinstance(run, partial):
        run = run.func
    called = trace.tb_frame.f_code.co_qualname if trace else "?"
    return str(getattr(run, "__qualname__", called))
