"""What a server begins with: nothing, or what the process before it has left."""

import socket
from collections.abc import Sequence
from typing import NamedTuple

from lane.cli.server import Setup
from lane.handover import store
from lane.handover.succession import Inheritance, inherited
from lane.session.parcel import Parcel


class Origin(NamedTuple):
    """What the process before this one has left, if anything."""

    link: socket.socket | None
    """To that process, if it is there: see `lane.handover.succession`."""
    before: Inheritance | None
    parcels: Sequence[Parcel]
    """Sessions that it has left at a restart: see `lane.handover.store`."""


def origin(setup: Setup) -> tuple[Setup, Origin]:
    """The origin of this process, and the setup that suits it. Raises Fatal if it can't be used."""
    link, parcels = inherited(setup.config.handover), []  # type: socket.socket | None, list[Parcel]
    before = Inheritance.receive(link) if link is not None else None
    if before is None and (stored := store.collect(setup.config.resume_grace, setup.processes)):
        before, parcels = stored
    return setup.after(before) if before is not None else setup, Origin(link, before, parcels)
