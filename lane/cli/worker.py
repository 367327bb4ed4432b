"""One worker of a server: what its parent knows of it, what all share, and what it is by itself."""

import json
import mmap
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from lane.address import Address
from lane.cli.forking import Say
from lane.cli.groups import Groups
from lane.cli.origin import Origin
from lane.cli.reload import Again
from lane.cli.role import Role
from lane.cli.running import watch
from lane.cli.server import Setup, serve
from lane.config import ServerConfig
from lane.handover import channel
from lane.handover.exchange import Others
from lane.handover.predecessor import Predecessor
from lane.handover.succession import Inheritance
from lane.look.server import Board
from lane.net import prepared, siblings
from lane.net.siblings import Siblings
from lane.plugins import Plugins
from lane.proto.hello import EPOCH_SIZE
from lane.server.begun import Begun
from lane.server.status import control
from lane.tally import Tally
from lane.users.bucket import Shared as Buckets
from lane.users.presence import Presence

if TYPE_CHECKING:
    from lane.admin.everyone import Shelves
    from lane.admin.port import Place

LEAST_PAUSE = 0.1
"""Seconds until a worker that died is started again. The pause doubles with each death in a row."""


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


class Shared:
    """What the parent and all workers have, from before the first fork on. `begin`: what was left to it."""

    def __init__(self, config: ServerConfig, begin: Origin) -> None:
        _, before, parcels = begin
        count = config.workers
        self.tally = Tally(count)
        self.begun = Begun(count, config.resume_grace)
        self.before = before
        self.epoch = before.epoch if before else os.urandom(EPOCH_SIZE)
        self.since = int(time())
        self.inboxes = [siblings.pair() for _ in range(count)]
        self.names = [channel.name() for _ in range(count)]
        self.desks = [channel.listen(name) for name in self.names]
        self.groups: Groups = before.groups if before else []
        self.port = before.port if before else 0
        self.status: socket.socket | None = before.status if before else None
        self.parcels = [*parcels]
        self.presence = Presence(count, before.presence if before else None, lends=True)
        self.departed = mmap.mmap(-1, count)
        """Whether each worker of the server before this one has ended, and the one here knows how."""
        self.buckets = Buckets(count)
        self.board = Board(config.transports, count)
        self.shelves: Shelves | None = None
        self.admin: Place | None = None

    def left(self, blind: float) -> Inheritance:
        """What a new parent gets. `blind`: see `Inheritance`."""
        inboxes = [theirs for theirs, _ in self.inboxes]
        admin = [*self.admin.sockets] if self.admin is not None else []
        return Inheritance(
            self.epoch,
            self.port,
            self.names,
            self.groups,
            inboxes,
            self.status,
            admin,
            blind,
            self.presence.lend(),
        )

    def open_admin(self, where: Address | Path) -> None:
        """Listen for the admin port. Raises ConfigError."""
        from lane.admin.everyone import Shelves  # noqa: PLC0415
        from lane.admin.port import Place  # noqa: PLC0415

        self.shelves = Shelves(len(self.names))
        self.admin = Place(where, self.before.admin if self.before else ())

    def close_admin(self, *, left: bool) -> None:
        """See `Place.close`."""
        if self.admin is not None:
            self.admin.close(left=left)

    def forget_parcels(self) -> None:
        """Close this process's copies of what is in them."""
        for parcel in self.parcels:
            parcel.close()
        self.parcels.clear()


class WorkerProcess:
    """The worker `number`, in its own process. `again`: it takes the place of one that has died."""

    def __init__(self, shared: Shared, number: int, say: Say, *, again: bool) -> None:
        self._shared = shared
        self._number = number
        self._say = say
        self._started_again = again

    def run(self, name: str, setup: Setup, plugins: Plugins, again: Again[ServerConfig] | None) -> int:
        """Serve until a signal."""
        shared, number, count = self._shared, self._number, len(self._shared.names)
        for other in range(count):
            if other != number:
                shared.inboxes[other][1].close()
                shared.desks[other].close()
                _close(sock for _, group in shared.groups for sock in group[other])
        prepared.mine = prepared.Prepared([(wanted, group[number]) for wanted, group in shared.groups])
        before = shared.before
        inbox = before.inboxes[number] if before and before.inboxes else None
        siblings.become(Siblings(number, count, shared.inboxes, inbox))
        os.environ.pop("NOTIFY_SOCKET", None)
        config = replace(setup.config, listen=setup.config.listen._replace(port=shared.port))
        with ExitStack() as resources:
            watch(config, plugins, resources, process=name)
            role = self._role(config)
            for at, parcel in enumerate(shared.parcels):
                if at % count == number:
                    role.parcels.append(parcel)
                else:
                    parcel.close()
            return serve(replace(setup, config=config), plugins, again, role)

    def _role(self, config: ServerConfig) -> Role:
        shared, number = self._shared, self._number
        shown = shared.admin.name if shared.admin else None
        status = control(
            config.state_dir, shared.tally, shared.presence, os.getppid(), shared.since, admin=shown
        )
        before = shared.before.names if shared.before else []

        def ready(_: int) -> None:
            if shared.status is not None:
                status.share(shared.status)
            self._say(["ready"])

        def forget() -> None:
            shared.presence.clear(number, other=True)
            shared.departed[number] = 1

        def departed(name: str) -> bool:
            return name in before and bool(shared.departed[before.index(name)])

        def stop() -> None:
            if shared.tally.stopping and prepared.mine is not None:
                prepared.mine.stop()

        return Role(
            shared.tally,
            number,
            status,
            ready,
            shared.board,
            os.getppid(),
            stop,
            shared.epoch,
            partial(shared.begun.begin, number),
            shared.desks[number],
            shared.names[number],
            Others([*(name for name in shared.names if name != shared.names[number]), *before], departed),
            Predecessor(before[number], forget, again=self._started_again) if before else None,
            blind=shared.before.blind if shared.before else 0.0,
            tell_lost=partial(shared.begun.lost, number),
            admin=shared.admin,
            shelves=shared.shelves,
            presence=shared.presence,
            buckets=shared.buckets,
        )


def _close(socks: Iterable[socket.socket]) -> None:
    for sock in socks:
        sock.close()
