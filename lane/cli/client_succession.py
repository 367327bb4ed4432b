"""A client that takes the place of another one, and leaves its own to the next.

It is the part of `lane.cli.client` that upgrades need (docs/UPGRADE.md). Other systems than Linux have none.
"""

import os
import socket
import sys
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any

from gevent.event import Event

from lane import __version__
from lane.carriers.path_control import PathControl
from lane.carriers.upstream import Upstream
from lane.cli.administration import Admin
from lane.cli.upgrading import Upgrades
from lane.config import ClientConfig
from lane.control import Control
from lane.handover import channel
from lane.handover.arrivals import Arrivals
from lane.handover.client_parting import ClientParting
from lane.handover.exchange import Desk, Others
from lane.handover.predecessor import Predecessor
from lane.handover.retirement import Retirement
from lane.handover.succession import Inheritance, inherited
from lane.net import prepared
from lane.net.path_memory import PATHS
from lane.tally import Tally

if TYPE_CHECKING:
    from lane.admin.port import Place

POSSIBLE = sys.platform == "linux" and hasattr(socket, "AF_UNIX")
"""Whether one process can take the place of another here."""


class ClientSuccession:
    """What this process has from the one before it, if any, and what it leaves. Raises Fatal."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        link = inherited() if POSSIBLE else None
        before = self.before = Inheritance.receive(link) if link is not None else None
        self.others = Others(before.names if before else [])
        self.place = _place(config, before)
        """Where the admin port listens."""
        self.ended, self._left = Event(), False
        self._tally, self._since = Tally(), int(time())
        self._device = b""
        self._paths: PathControl | None = None
        self._control: Control | None = None
        self._desk: Desk | None = None
        self._name = channel.name()
        self._predecessor = Predecessor(before.names[0]) if before else None
        self._arrivals: Arrivals | None = None
        self._upgrades = Upgrades(link, self._leave, self._hasten, self._tally)
        self._hurry: Callable[[], None] = lambda: None

    @property
    def left(self) -> bool:
        """Whether another process has the place of this one."""
        return self._left

    @property
    def upgrade(self) -> Callable[[], None] | None:
        """What SIGUSR2 calls."""
        return self._upgrades.begin if POSSIBLE else None

    def same_device(self, upstream: Upstream) -> Upstream:
        """It with the name under which the process before this one is known, or a user would have two."""
        if self.before is not None and (device := self.before.known["device"]):
            upstream = upstream._replace(device=device)
        self._device = upstream.device
        return upstream

    def carry_over(self, paths: PathControl) -> None:
        """Begin with what the process before this one has learnt of the way to the server."""
        self._paths = paths
        if self.before is not None:
            known = self.before.known
            paths.prefer(known["choice"], known["reason"])
            for row in known["paths"]:
                PATHS.restore(*row)

    def succeed(self) -> None:
        """Have the process before this one take no more connections: this one is about to. Raises Fatal."""
        if POSSIBLE:
            found = [(wanted, group[0]) for wanted, group in self.before.groups] if self.before else []
            prepared.keeps, prepared.mine = True, prepared.Prepared(found)
        if self._predecessor is not None:
            self._predecessor.succeed()

    def offer(self, parting: ClientParting, control: Control | None, admin: Admin) -> None:
        """Answer the next process, which takes the place of this one by way of `parting`."""
        self._control = control
        if not POSSIBLE:
            return
        assert prepared.mine is not None
        prepared.mine.drop_others()

        def changed(succeeded: bool) -> None:
            answering: list[Control | Admin] = [admin] if control is None else [control, admin]
            for one in answering:
                one.pause() if succeeded else one.resume()

        retirement = Retirement(parting, self.others, changed, self._end)
        self._hurry = retirement.hurry
        self._desk = Desk(channel.listen(self._name), parting.departures, lambda *_: None, retirement)
        if control is not None:
            control.answers["process"] = self._snapshot

    def serve(self, arrivals: Arrivals) -> None:
        """Say that this process serves, and take over connections. Raises Fatal."""
        self._arrivals = arrivals
        self._upgrades.serving()
        if self._predecessor is not None:
            self._predecessor.serve(arrivals, self.others, self._name, arrivals.told)

    def stop(self) -> None:
        """Stop listening, unless another process goes on with that."""
        if not self._left:
            self._upgrades.stop()
        if prepared.mine is not None:
            prepared.mine.close()
        if self.place is not None:
            self.place.close(left=self._left)

    def close(self) -> None:
        """Answer no other process any more."""
        if self._desk is not None:
            self._desk.close()

    def _snapshot(self) -> dict[str, Any]:
        """What `lane upgrade` asks for."""
        staying = self._arrivals.staying if self.before is not None and self._arrivals is not None else 0
        return {
            "pid": os.getpid(),
            "version": __version__,
            "since": self._since,
            "upgrade": self._tally.note,
            "staying": staying,
            "patience": self._config.upgrade_timeout,
        }

    def _leave(self) -> Inheritance:
        assert prepared.mine is not None
        assert self._paths is not None
        groups = [(wanted, [[*socks]]) for wanted, socks in prepared.mine.found]
        known = {
            "device": self._device,
            "choice": self._paths.lanes.choice.name,
            "reason": self._paths.reason,
            "paths": PATHS.dump(),
        }
        status = self._control.lend() if self._control is not None else None
        admin = [*self.place.sockets] if self.place is not None else []
        return Inheritance(b"", 0, [self._name], groups, [], status, admin, known=known)

    def _hasten(self) -> None:
        self._hurry()

    def _end(self) -> None:
        self._left = True
        self.ended.set()


def _place(config: ClientConfig, before: Inheritance | None) -> "Place | None":
    if config.admin is None:
        return None
    from lane.admin.port import Place  # noqa: PLC0415

    return Place(config.admin, before.admin if before else ())
