"""Processes that a parent forks: how they begin and end.

The parent has no event loop and no threads, because neither survives a fork.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import gevent

from lane.cli.exits import ENDS, STATUSES, exit_status
from lane.errors import Fatal, LaneError
from lane.text import describe

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
Say = Callable[[Any], None]
"""Tells the parent something, as JSON."""


def fork(work: Callable[[Say], int]) -> tuple[int, int]:
    """Fork a process that does `work` and exits with its status. Returns its pid, and a descriptor.

    From the descriptor the parent reads what it says, one line each. If `work` raises an error, it says
    `["error", STATUS, TEXT]` as its last words. It gets SIGTERM if the parent dies.
    """
    parent = os.getpid()
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if not pid:
            _live(work, parent, ours, theirs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    os.close(theirs)
    return pid, ours


def _live(work: Callable[[Say], int], parent: int, ours: int, theirs: int) -> None:
    """Be the new process. Never returns."""

    def say(what: Any) -> None:
        os.write(theirs, json.dumps(what).encode() + b"\n")

    status = 1
    try:
        os.close(ours)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # until there is somebody to hear them
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all, and the parent acts on it
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() == parent:
            gevent.reinit()  # a plugin may have used the event loop
            status = work(say)
    except ENDS as error:
        status = exit_status(error)
        say(["error", status, str(error)])
    except BaseException as error:
        traceback.print_exc()
        say(["error", status, describe(error)])
    finally:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)


def ask(work: Callable[[], Any]) -> Any:
    """The result of `work`, as JSON, which is done in a process of its own. Raises Fatal with its error."""

    def tell(say: Say) -> int:
        say(["result", work()])
        return 0

    pid, reader = fork(tell)
    with os.fdopen(reader, "rb") as said:
        lines = said.read().splitlines()  # no limit: as long as `work` takes
    os.waitpid(pid, 0)  # no limit: it has closed its end, so it is about to exit
    kind, *rest = json.loads(lines[-1]) if lines else ("error", 1, "a process that was started has died")
    if kind == "error":
        raise failure(*rest)
    return rest[0]


def failure(status: int, text: str) -> LaneError:
    """The error that ended a process with `status`."""
    return next((kind for kind, number in STATUSES.items() if number == status), Fatal)(text)
