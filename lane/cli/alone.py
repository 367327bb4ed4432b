"""A server that is one process, the default: what it is by itself, and how it is upgraded."""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from time import time

from lane.cli.origin import Origin, origin
from lane.cli.reload import Again
from lane.cli.role import Role
from lane.cli.server import Setup, serve
from lane.cli.upgrading import Upgrades
from lane.config import ServerConfig
from lane.control import Control
from lane.errors import ConfigError
from lane.handover import channel
from lane.handover.exchange import Others
from lane.handover.predecessor import Predecessor
from lane.handover.store import Store
from lane.handover.succession import Inheritance
from lane.look.server import Board
from lane.meeting import server_path
from lane.net import prepared, siblings
from lane.net.siblings import Siblings
from lane.plugins import Plugins
from lane.proto.hello import EPOCH_SIZE
from lane.server.status import online, snapshot
from lane.tally import PID, SINCE, Tally
from lane.users.presence import Presence

log = logging.getLogger("lane.server")


def run(config: ServerConfig, plugins: Plugins, again: Again[ServerConfig] | None = None) -> int:
    """Serve until a signal, as one process. Raises Fatal if it cannot start. `again` is for SIGHUP."""
    if config.workers > 1:
        log.warning("--workers: several take Linux, so this is one process")
    setup, begin = origin(Setup.read(config, plugins))
    return serve(setup, plugins, again, _role(setup, begin))


def _role(setup: Setup, begin: Origin) -> Role:
    """The role of a server that is one process."""
    link, before, parcels = begin
    tally, since, epoch = Tally(), int(time()), before.epoch if before else os.urandom(EPOCH_SIZE)
    tally.put(0, PID, os.getpid())
    tally.put(0, SINCE, since)
    where = server_path(setup.config.state_dir)
    presence = Presence()
    status = Control(
        where,
        partial(snapshot, tally, os.getpid(), since),
        who="server",
        answers={"online": partial(online, presence)},
    )
    admin = None
    if setup.config.admin is not None:
        from lane.admin.port import Place  # noqa: PLC0415

        admin = Place(setup.config.admin, before.admin if before else ())
    handed = sys.platform == "linux"
    if handed:
        prepared.keeps = True
        found = [(wanted, group[0]) for wanted, group in before.groups] if before else []
        prepared.mine = prepared.Prepared(found)
        siblings.become(Siblings(before=before.inboxes[0] if before and before.inboxes else None))
    name = channel.name()
    port = 0
    hurry: list[Callable[[], None]] = []

    def leave() -> Inheritance:
        assert prepared.mine is not None
        groups = [(wanted, [[*socks]]) for wanted, socks in prepared.mine.found]
        inboxes = [siblings.here().inbox()]
        return Inheritance(
            epoch, port, [name], groups, inboxes, status.lend(), [*admin.sockets] if admin else []
        )

    def hasten() -> None:
        for call in hurry:
            call()

    upgrades, kept = Upgrades(link, leave, hasten, tally), Store.found()

    def ready(listening: int) -> None:
        nonlocal port
        port = listening
        upgrades.serving()
        try:
            if before is not None and before.status is not None:
                status.adopt(before.status)
            else:
                status.start()
        except ConfigError as error:
            log.warning("lane status will not work: %s", error)
        setup.greet(listening)
        if handed and setup.config.handover is not None:
            upgrades.listen(setup.config.handover)

    def stop() -> None:
        upgrades.stop()
        if admin is not None:
            admin.close()
        if prepared.mine is not None:
            prepared.mine.close()

    return Role(
        tally,
        0,
        status,
        ready,
        Board(setup.config.transports),
        os.getpid(),
        stop,
        epoch,
        desk=channel.listen(name) if handed else None,
        desk_name=name,
        others=Others(before.names if before else []),
        before=Predecessor(before.names[0]) if before and before.names else None,
        upgrade=upgrades.begin if handed else None,
        parcels=[*parcels],
        keep=(lambda parcels: kept.keep(leave().for_later(), parcels)) if kept else None,
        hurry=hurry,
        admin=admin,
        presence=presence,
    )
