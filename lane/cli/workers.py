"""The parent of the workers of a server (`lane server --workers`).

It reads the configuration and the state folder, opens the sockets, forks the workers, and starts those that
die again, each with its own sockets (`lane.net.prepared`). Each worker is a server of its own
(`lane.cli.server`) that shares what must be common: the port, the identity and the keys, the limits, the
server's epoch, and the memory of what was begun. docs/WORKERS.md has the whole.

There is no event loop here: this process waits for signals, and for what its workers say.
"""

import errno
import logging
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from math import inf
from time import monotonic, time

from lane import state
from lane.admin import access_log
from lane.certs import own_identity
from lane.cli.forked_upgrading import ForkedUpgrades
from lane.cli.forking import Say, fork
from lane.cli.groups import open_groups
from lane.cli.origin import Origin, origin
from lane.cli.reload import Again, Reloading, Step
from lane.cli.server import Setup
from lane.cli.service import notify, tell_wait
from lane.cli.worker import LEAST_PAUSE, Shared, Worker, WorkerProcess
from lane.config import ServerConfig
from lane.errors import ConfigError, Fatal, LaneError
from lane.handover.exchange import take_all
from lane.handover.store import Store
from lane.handover.succession import Inheritance
from lane.meeting import identity, listen_at, remove, server_path
from lane.plugins import Plugins
from lane.server.begun import LEAST_TIME
from lane.session.parcel import Parcel
from lane.stream import Prepares
from lane.tally import CARRIERS, PID, RESTARTS, SESSIONS, SINCE

MOST_PAUSE = 5.0
"""The most seconds until a worker that died is started again."""
STEADY = 10.0
"""Seconds of life after which a death is not one in a row."""
LAST_WORDS = 10.0
"""Seconds that workers have after the grace for sessions, to end by themselves."""
_SIGNALS = (signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("lane.server")


def run(config: ServerConfig, plugins: Plugins, again: Again[ServerConfig] | None = None) -> int:
    """Serve until a signal. Raises Fatal if it cannot start. `again` is for SIGHUP."""
    access_log.check(config.access_log)  # now, since it is each worker that opens it
    setup, begin = origin(Setup.read(config, plugins))
    return Parent(setup, plugins, again, begin).run()


class Parent:
    """The parent of a server's workers. `again` is for SIGHUP, `begin` what another one has left."""

    def __init__(
        self,
        setup: Setup,
        plugins: Plugins,
        again: Again[ServerConfig] | None,
        begin: Origin,
    ) -> None:
        config = setup.config
        self._setup = setup
        self._plugins = plugins
        self._again = again
        self._shared = Shared(config, begin)
        self._tally = self._shared.tally
        self._workers = [Worker(number) for number in range(config.workers)]
        self._selector = selectors.PollSelector()
        self._upgrades = ForkedUpgrades(
            self._selector,
            begin.link,
            self._leave,
            partial(self._tell, signal.SIGUSR2),
            self._tally,
        )
        self._greeted = False
        self._bereft = -inf  # when a worker died last
        self._waiting = inf  # the time at which a server that stops waits no more for the next process
        self._until = inf  # the time at which a server that stops is killed
        steps: dict[str, Step[ServerConfig]] = {"certificate": self._read_identity}
        self._reload = Reloading(config, again, steps)
        self._reloaded = -inf

    def run(self) -> int:
        """Serve until a signal. Raises Fatal if the server cannot start."""
        with ExitStack() as resources:
            self._prepare()
            if not self._shared.groups:
                self._shared.port, self._shared.groups = open_groups(self._setup)
            self._open_status(resources)
            if (where := self._setup.config.admin) is not None:
                self._shared.open_admin(where)
                resources.callback(lambda: self._shared.close_admin(left=self._upgrades.succeeded))
            self._await_signals()
            resources.callback(self._kill_all)
            while any(worker.pid for worker in self._workers) or self._stays:
                self._turn()
        return 0

    @property
    def _stays(self) -> bool:
        """Whether workers that end are started again."""
        return self._until == inf and not self._upgrades.succeeded

    def _leave(self) -> Inheritance:
        """What a new process gets that takes the place of this one."""
        blind = max(0.0, self._bereft + LEAST_TIME - monotonic())
        return self._shared.left(blind)

    # Before the workers.

    def _prepare(self) -> None:
        for transport in self._setup.transports:
            if isinstance(transport, Prepares):
                transport.prepare(self._setup.kept.identity)

    def _open_status(self, resources: ExitStack) -> None:
        path = server_path(self._setup.config.state_dir)
        try:
            if self._shared.status is not None:
                file = identity(path)
            else:
                self._shared.status, file = listen_at(path)
        except (ConfigError, OSError) as error:
            log.warning("lane status will not work: %s", error)
        else:
            resources.callback(lambda: None if self._upgrades.succeeded else remove(path, file))

    def _await_signals(self) -> None:
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._waking = reader, writer
        self._selector.register(reader, selectors.EVENT_READ, self._act)

    # While there are workers.

    def _turn(self) -> None:
        """Start who is due, wait for news, and act on them."""
        now = monotonic()
        if self._stays:
            for worker in self._workers:
                if not worker.pid and worker.due <= now:
                    self._start(worker)
        times = [
            self._until,
            self._waiting,
            self._upgrades.until,
            *(one.due for one in self._workers if not one.pid),
        ]
        pause = min(times if self._stays else times[:3]) - monotonic()
        for key, _ in self._selector.select(None if pause == inf else max(pause, 0.0)):
            key.data()
        for worker in self._workers:
            if worker.pid:
                self._look_after(worker)
        self._upgrades.look()
        if monotonic() >= self._waiting or (self._waiting < inf and self._upgrades.succeeded):
            self._end()
        if monotonic() >= self._until:
            self._kill_all()

    def _start(self, worker: Worker) -> None:
        worker.began, worker.ready, worker.words = monotonic(), False, b""
        worker.pid, worker.reader = fork(partial(self._work, worker))
        self._selector.register(worker.reader, selectors.EVENT_READ, worker.listen)
        self._tally.put(worker.number, PID, worker.pid)
        self._tally.put(worker.number, SINCE, int(time()))

    def _look_after(self, worker: Worker) -> None:
        if not worker.ready and worker.said == ["ready"]:
            worker.ready = True
            if worker.began < self._reloaded:  # while it could not hear a signal
                os.kill(worker.pid, signal.SIGHUP)
            if not self._greeted and all(one.ready for one in self._workers):
                self._greeted = True
                self._shared.forget_parcels()  # the workers have them
                self._upgrades.serving()
                self._setup.greet(self._shared.port)
                if (path := self._setup.config.handover) is not None:
                    self._upgrades.listen(path)
                notify("READY=1")
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if pid:
            self._bury(worker, status)

    def _bury(self, worker: Worker, status: int) -> None:
        """Tidy up after a worker that has ended, and plan its successor."""
        self._selector.unregister(worker.reader)
        while more := os.read(worker.reader, 65536):  # its last words, up to their end
            worker.words += more
        os.close(worker.reader)
        worker.pid = 0
        for field in (PID, SESSIONS, CARRIERS):
            self._tally.put(worker.number, field, 0)
        self._shared.presence.clear(worker.number)
        if self._upgrades.succeeded:
            self._shared.desks[worker.number].close()  # so that nobody waits for its answer
        if self._until < inf or (self._upgrades.succeeded and not status):
            return
        self._bereft = monotonic()
        kind, *rest = worker.said
        why = rest[1] if kind == "error" else _describe(status)
        if not self._greeted:
            own = "; a transport that does not listen with lane.net.listen takes --workers 1"
            hint = own if os.strerror(errno.EADDRINUSE) in why else ""
            raise Fatal(f"{worker.name} cannot start: {why}{hint}")
        now = monotonic()
        if now - worker.began > STEADY:
            worker.pause = LEAST_PAUSE
        worker.due, worker.pause = now + worker.pause, min(2 * worker.pause, MOST_PAUSE)
        self._tally.put(worker.number, RESTARTS, self._tally.get(worker.number, RESTARTS) + 1)
        again = "; it is started again" if self._stays else ""
        log.error("%s has ended (%s), and its sessions with it%s", worker.name, why, again)

    def _act(self) -> None:
        """Act on the signals that have arrived."""
        for number in self._waking[0].recv(4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(number)
            elif number == signal.SIGHUP:
                self._reload.read()
                self._reloaded = monotonic()
                self._tell(signal.SIGHUP)
            elif number == signal.SIGUSR1:
                self._tell(signal.SIGUSR1)
            elif number == signal.SIGUSR2 and self._greeted:
                self._upgrades.begin()

    def _stop(self, number: int) -> None:
        """End the workers: in good order, or at once if that has begun."""
        if self._until < inf or self._waiting < inf:
            self._kill_all()
            os._exit(128 + number)
        if self._reload.config.handover is not None and self._tally.total(SESSIONS):
            self._waiting = monotonic() + self._reload.config.grace  # the next process may come
        else:
            self._end()

    def _end(self) -> None:
        self._waiting = inf
        grace = self._reload.config.grace
        self._until = monotonic() + grace + LAST_WORDS
        notify("STOPPING=1")
        self._upgrades.stop()
        if self._upgrades.succeeded:
            pass  # the sockets are another process's
        elif (kept := Store.found()) is not None:
            kept.keep(self._leave().for_later(), self._surrendered())
        else:
            self._tally.stopping = True
            tell_wait(self._tally.total(SESSIONS), grace)
        self._tell(signal.SIGTERM)

    def _surrendered(self) -> Iterator[Parcel]:
        """The sessions of all workers, which do not serve from then on."""
        for worker in self._workers:
            try:
                if worker.pid:
                    yield from take_all(self._shared.names[worker.number])
            except (OSError, LaneError) as error:
                log.warning("%s does not leave its sessions: %s", worker.name, error)

    def _tell(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _kill_all(self) -> None:
        self._tell(signal.SIGKILL)
        for worker in self._workers:
            if worker.pid:
                os.waitpid(worker.pid, 0)  # no limit: it was killed
                worker.pid = 0

    def _read_identity(self, config: ServerConfig) -> str:
        """For workers to come: a step of `lane.cli.reload`."""
        before = self._setup.kept
        found = own_identity(config.cert, config.cert_key) or state.read_identity(config.state_dir)
        found = state.succeed(config.state_dir, before.identity, found, config.cert_overlap)
        if found != before.identity:
            self._setup.kept = replace(before, identity=found)
            try:
                self._prepare()
            except ConfigError:
                self._setup.kept = before
                raise
        return ""

    def _work(self, worker: Worker, say: Say) -> int:
        """Be a worker, in a new process."""
        self._selector.close()
        for end in self._waking:
            end.close()
        for other in self._workers:
            if other is not worker and other.pid:
                os.close(other.reader)
        setup = replace(self._setup, config=self._reload.config)
        process = WorkerProcess(self._shared, worker.number, say, again=self._greeted)
        return process.run(worker.name, setup, self._plugins, self._again)


def _describe(status: int) -> str:
    """How a process ended, by its wait status."""
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
