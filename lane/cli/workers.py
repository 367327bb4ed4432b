"""The parent of the workers of a server (`lane server --workers`).

It reads the configuration and the state folder, opens the sockets, forks the workers, and starts those that
die again, each with its own sockets (`lane.net.prepared`). Each worker is a server of its own
(`lane.cli.server`) that shares what must be common: the port, the identity and the keys, the limits, the
server's epoch, and the memory of what was begun. docs/WORKERS.md has the whole.

There is no event loop here: this process waits for signals, and for what its workers say.
"""

import errno
import json
import logging
import os
import selectors
import signal
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from time import monotonic, time
from typing import Any

from lane import state
from lane.admin import access_log
from lane.admin.everyone import Shelves
from lane.admin.port import Place
from lane.certs import own_identity
from lane.cli.forking import Say, fork
from lane.cli.groups import Groups, open_groups
from lane.cli.reload import Again, Reloading, Step
from lane.cli.running import watch
from lane.cli.server import Role, Setup, serve
from lane.cli.service import notify, tell_wait
from lane.config import ServerConfig
from lane.control import Control
from lane.errors import ConfigError, Fatal
from lane.meeting import listen_at, remove, server_path
from lane.net import prepared, siblings
from lane.net.siblings import Siblings
from lane.plugins import Plugins
from lane.proto.hello import EPOCH_SIZE
from lane.server.begun import Begun
from lane.server.status import online, snapshot
from lane.stream import Prepares
from lane.tally import CARRIERS, PID, RESTARTS, SESSIONS, SINCE, Tally
from lane.users.presence import Presence

LEAST_PAUSE, MOST_PAUSE = 0.1, 5.0
"""Seconds until a worker that died is started again. The pause doubles with each death in a row."""
STEADY = 10.0
"""Seconds of life after which a death is not one in a row."""
LAST_WORDS = 10.0
"""Seconds that workers have after the grace for sessions, to end by themselves."""
_SIGNALS = (signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("lane.server")


def run(config: ServerConfig, plugins: Plugins, again: Again[ServerConfig] | None = None) -> int:
    """Serve until a signal. Raises Fatal if it cannot start. `again` is for SIGHUP."""
    access_log.check(config.access_log)  # now, since it is each worker that opens it
    return Parent(Setup.read(config, plugins), plugins, again).run()


@dataclass
class Worker:
    """One worker. `pid` is 0 while there is none; then it is started at the time `due`."""

    number: int
    pid: int = 0
    reader: int = -1
    words: bytes = b""
    """What it said. A line is a list: `["ready"]`, or `["error", STATUS, TEXT]`."""
    ready: bool = False
    began: float = 0.0
    due: float = 0.0
    pause: float = LEAST_PAUSE

    @property
    def name(self) -> str:
        """Its name in the log."""
        return f"worker {self.number + 1}"

    def listen(self) -> None:
        """Take what it has said."""
        self.words += os.read(self.reader, 65536)

    @property
    def said(self) -> list[Any]:
        """Its last whole line."""
        lines = self.words.split(b"\n")
        found: list[Any] = json.loads(lines[-2]) if len(lines) > 1 else [""]
        return found


class Parent:
    """The parent of a server's workers. `again` is for SIGHUP."""

    def __init__(self, setup: Setup, plugins: Plugins, again: Again[ServerConfig] | None) -> None:
        config = setup.config
        self._setup = setup
        self._plugins = plugins
        self._again = again
        self._tally = Tally(config.workers)
        self._presence = Presence(config.workers)
        self._begun = Begun(config.workers, config.resume_grace)
        self._epoch = os.urandom(EPOCH_SIZE)
        self._since = int(time())
        self._inboxes = [siblings.pair() for _ in range(config.workers)]
        self._workers = [Worker(number) for number in range(config.workers)]
        self._groups: Groups = []
        self._port = 0
        self._status: socket.socket | None = None
        self._admin: Place | None = None
        self._shelves = Shelves(config.workers) if config.admin is not None else None
        self._selector = selectors.PollSelector()
        self._greeted = False
        self._until = inf  # the time at which a server that stops is killed
        steps: dict[str, Step[ServerConfig]] = {"certificate": self._read_identity}
        self._reload = Reloading(config, again, steps)
        self._reloaded = -inf

    def run(self) -> int:
        """Serve until a signal. Raises Fatal if the server cannot start."""
        with ExitStack() as resources:
            self._prepare()
            self._port, self._groups = open_groups(self._setup)
            self._open_status(resources)
            if (where := self._setup.config.admin) is not None:
                self._admin = Place(where)
                resources.callback(self._admin.close)
            self._await_signals()
            resources.callback(self._kill_all)
            while any(worker.pid for worker in self._workers) or self._until == inf:
                self._turn()
        return 0

    # Before the workers.

    def _prepare(self) -> None:
        for transport in self._setup.transports:
            if isinstance(transport, Prepares):
                transport.prepare(self._setup.kept.identity)

    def _open_status(self, resources: ExitStack) -> None:
        path = server_path(self._setup.config.state_dir)
        try:
            self._status, file = listen_at(path)
        except ConfigError as error:
            log.warning("lane status will not work: %s", error)
        else:
            resources.callback(remove, path, file)

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
        if self._until == inf:
            for worker in self._workers:
                if not worker.pid and worker.due <= now:
                    self._start(worker)
        times = [self._until, *(worker.due for worker in self._workers if not worker.pid)]
        pause = min(times if self._until == inf else times[:1]) - monotonic()
        for key, _ in self._selector.select(None if pause == inf else max(pause, 0.0)):
            key.data()
        for worker in self._workers:
            if worker.pid:
                self._look_after(worker)
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
                self._setup.greet(self._port)
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
        self._presence.clear(worker.number)
        if self._until < inf:
            return
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
        log.error("%s has ended (%s), and its sessions with it; it is started again", worker.name, why)

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

    def _stop(self, number: int) -> None:
        """End the workers: in good order, or at once if that has begun."""
        if self._until < inf:
            self._kill_all()
            os._exit(128 + number)
        grace = self._reload.config.grace
        self._until = monotonic() + grace + LAST_WORDS
        self._tally.stopping = True
        notify("STOPPING=1")
        tell_wait(self._tally.total(SESSIONS), grace)
        self._tell(signal.SIGTERM)

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
        if found != before.identity:
            self._setup.kept = replace(before, identity=found)
            try:
                self._prepare()
            except ConfigError:
                self._setup.kept = before
                raise
        return ""

    # In a worker.

    def _work(self, worker: Worker, say: Say) -> int:
        """Be a worker, in a new process."""
        self._selector.close()
        _close(self._waking)
        for other in self._workers:
            if other is not worker:
                self._inboxes[other.number][1].close()
                _close(sock for _, group in self._groups for sock in group[other.number])
                if other.pid:
                    os.close(other.reader)
        mine = [(wanted, group[worker.number]) for wanted, group in self._groups]
        prepared.mine = prepared.Prepared(mine)
        siblings.become(Siblings(worker.number, len(self._workers), self._inboxes))
        os.environ.pop("NOTIFY_SOCKET", None)
        config = replace(self._reload.config, listen=self._setup.config.listen._replace(port=self._port))
        with ExitStack() as resources:
            watch(config, self._plugins, resources, process=worker.name)
            setup = replace(self._setup, config=config)
            return serve(setup, self._plugins, self._again, self._role(worker, say))

    def _role(self, worker: Worker, say: Say) -> Role:
        parent = os.getppid()
        where = server_path(self._setup.config.state_dir)
        status = Control(
            where,
            partial(snapshot, self._tally, parent, self._since),
            who="server",
            answers={"online": partial(online, self._presence)},
        )

        def ready(_: int) -> None:
            if self._status is not None:
                status.share(self._status)
            say(["ready"])

        def stop() -> None:
            if self._tally.stopping and prepared.mine is not None:
                prepared.mine.stop()

        begin = partial(self._begun.begin, worker.number)
        return Role(
            self._tally, worker.number, status, ready, stop, self._epoch, begin,
            presence=self._presence, admin=self._admin, shelves=self._shelves,
        )  # fmt: skip


def _close(socks: Iterable[socket.socket]) -> None:
    for sock in socks:
        sock.close()


def _describe(status: int) -> str:
    """How a process ended, by its wait status."""
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
