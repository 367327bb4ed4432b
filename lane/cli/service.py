"""The common parts of the client and the server as services: signals, readiness and their transports."""

import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable

import gevent
from gevent.event import Event

from lane import census
from lane.config import DEFAULT_TRANSPORTS
from lane.heap import keep_buffers
from lane.stream import Transport
from lane.text import complain

_LATE = (
    "pickle",  # by gevent, for a greenlet that dies
    "encodings.idna",  # by Python, for a name that is passed to a socket
    "encodings.punycode",  # for a name in another alphabet
    "idna.uts46data",
)
"""Modules that libraries import at their first use. There may be no free descriptor at that time. So they are
imported at the start."""
log = logging.getLogger("lane")


def run_until_signal(
    greet: Callable[[], None],
    close: Callable[[], None],
    reload: Callable[[], None],
    *,
    hurries: bool = True,
    upgrade: Callable[[], None] | None = None,
    ended: Event | None = None,
) -> int:
    """Wait for SIGINT or SIGTERM, call `close`, and return 0. A second signal ends the process at once.

    Not if `hurries` is False: a worker gets SIGTERM from its parent, and perhaps from others too. It leaves
    SIGINT to its parent. `upgrade` is called on SIGUSR2. If `ended` is set, that is as a signal to stop.

    `reload` is called on SIGHUP. SIGUSR1 logs a census. `greet` announces that the service is ready. A
    signal may follow at once, so the handlers are installed before.
    """
    stop = ended or Event()
    keep_buffers()
    for name in _LATE:
        importlib.import_module(name)

    def on_signal(number: int) -> None:
        if stop.is_set() and hurries:
            os._exit(128 + number)
        notify("STOPPING=1")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM) if hurries else (signal.SIGTERM,):
        gevent.signal_handler(number, on_signal, number)
    if hasattr(signal, "SIGHUP"):  # not on Windows
        gevent.signal_handler(signal.SIGUSR1, census.tell)
        gevent.signal_handler(signal.SIGHUP, reload)
    if upgrade is not None:
        gevent.signal_handler(signal.SIGUSR2, upgrade)
    greet()
    notify("READY=1")
    stop.wait()  # no limit: the process runs until a signal
    close()
    return 0


def tell_wait(sessions: int, grace: float) -> None:
    """Say what the ending process waits for. A user at a terminal sees it even with a log file."""
    if not sessions or not grace:
        return
    plural = "s" if sessions > 1 else ""
    text = f"stopping: {sessions} connection{plural} may finish within {grace:g} s; Ctrl-C again ends at once"
    if sys.stderr.isatty():
        complain(f"lane: {text}")
    else:
        log.info("%s", text)


def notify(state: str) -> None:
    """Send `state` to the service manager, if there is one (sd_notify(3))."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), "\0" + where[1:] if where.startswith("@") else where)
        except OSError:
            return  # the manager has ended


def for_auto(transports: Iterable[Transport]) -> list[Transport]:
    """The transports that `--transport auto` uses: those that declare their cost."""
    return [one for one in transports if hasattr(one, "cost")]


def beyond_default(transports: Iterable[Transport]) -> str:
    """The names of the transports that a server does not offer by default; may be empty."""
    return ", ".join(one.name for one in transports if one.name not in DEFAULT_TRANSPORTS)
