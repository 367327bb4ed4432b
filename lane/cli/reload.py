"""SIGHUP: a running process reads its live settings and files again. All connections stay open.

Each item is read independently. If one is faulty, its old value stays in force, and a warning is logged. So a
typo in one file neither locks out a server's users nor blocks a renewed certificate.
"""

import logging
import os
import signal
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

import gevent

from lane import log as logs
from lane.cli import option_parser
from lane.config import LIVE, ClientConfig, ServerConfig
from lane.errors import Fatal
from lane.plugins import Plugins
from lane.supervisor import report

C = TypeVar("C", ClientConfig, ServerConfig)
Again = Callable[[], tuple[C, Sequence[str]]]
"""Reads the options again. Returns the new configuration, and the changed options that need a restart.

Raises Fatal for a faulty option.
"""
Step = Callable[[C], str]
"""Reads one item again, with the new configuration. Returns a text about it. Raises Fatal."""

WITHIN = 8.0
"""Seconds that reading may take before `lane reload` is told so. It waits longer for an answer."""
LOOK = 0.02
"""Seconds between two looks whether it has been done."""

log = logging.getLogger("lane")


def rereading(
    command: str, argv: Sequence[str], namespace: Namespace, plugins: Plugins, read: Callable[[Namespace], C]
) -> Again[C]:
    """A function that reads the options of a running command again.

    The command was started with `argv`, which gave `namespace`.
    """
    live = LIVE[command]

    def again() -> tuple[C, Sequence[str]]:
        known = len(plugins.errors)
        try:
            found, _ = option_parser.parse(command, argv, lambda _: None, plugins)
        finally:
            del plugins.errors[known:]  # errors since the start were reported then
        read(found)  # one mistake in a file makes the whole file invalid
        values = {name: text for name, text in vars(found).items() if name in live}
        sources = {name: source for name, source in namespace.sources.items() if name not in live}
        sources |= {name: source for name, source in found.sources.items() if name in live}
        merged = Namespace(**{**vars(namespace), **values, "sources": sources})
        others = vars(namespace).keys() - live - {"files", "sources", "carried", "from_link"}
        changed = [name for name in sorted(others) if getattr(found, name, None) != getattr(namespace, name)]
        return read(merged), [f"--{name.replace('_', '-')}" for name in changed]

    return again


class Reloading(Generic[C]):
    """Call it on SIGHUP. It reads the options again, reopens the log file, and then runs `steps`.

    The keys of `steps` are the names of the items, for warnings. A new call replaces one that is still
    running.
    """

    def __init__(self, config: C, again: Again[C] | None, steps: Mapping[str, Step[C]]) -> None:
        self.config: C = config
        """The configuration in force."""
        self._again: Again[C] | None = again
        self._steps: Mapping[str, Step[C]] = {"log": _reopen, **steps}
        self._reading: gevent.Greenlet[..., None] | None = None
        self._rounds = 0  # how often everything was read
        self._last: dict[str, Any] = {"read": [], "kept": [], "failed": False}

    def __call__(self) -> None:
        """Start reading in the background."""
        if self._reading:
            self._reading.kill(block=False)
        self._reading = gevent.spawn(self.read)

    def ask(self, pid: int) -> dict[str, Any]:
        """Send SIGHUP to the process `pid`, which has this one read everything. Returns what that gave.

        `read` and `kept` are texts about items, `failed` says whether one could not be read.
        """
        before, until = self._rounds, monotonic() + WITHIN
        os.kill(pid, signal.SIGHUP)
        while self._rounds == before:
            if monotonic() > until:
                return {
                    "read": [],
                    "kept": ["it takes long: the log will say what came of it"],
                    "failed": True,
                }
            gevent.sleep(LOOK)
        return self._last

    def read(self) -> None:
        """Read everything now."""
        done: list[str] = []
        self._last = {"read": done, "kept": [], "failed": False}
        self._try("configuration", self._configure, done)
        for what, step in self._steps.items():
            self._try(what, partial(step, self.config), done)
        done[:] = filter(None, done)
        self._rounds += 1
        read = ", ".join(done)  # no limit: this joins text
        log.info("read again on SIGHUP: %s", read or "nothing")

    def _try(self, what: str, read: Callable[[], str], done: list[str]) -> None:
        try:
            done.append(read())
        except Fatal as error:
            self._last["kept"].append(f"the {what} stayed as before: {error}")
            self._last["failed"] = True
            log.warning("SIGHUP: the %s stayed as before: %s", what, error)
        except Exception as error:
            self._last["kept"].append(f"the {what} stayed as before: its log has the reason")
            self._last["failed"] = True
            report(f"reading the {what} again", error)

    def _configure(self) -> str:
        if self._again is None:
            return ""
        self.config, fixed = self._again()
        if fixed:
            self._last["kept"].append(f"changed, and takes a restart: {', '.join(fixed)}")
            log.warning("SIGHUP: changed, and takes a restart: %s", ", ".join(fixed))
        return "the configuration"


def _reopen(config: ClientConfig | ServerConfig) -> str:
    logs.reopen(config.log_level, config.log_file, config.log_format)
    return f"{config.log_file} opened" if config.log_file else ""
