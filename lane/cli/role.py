"""What a process is in a server: all of it, or one of its workers (`lane.cli.workers`)."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lane.control import Control
from lane.handover.exchange import Others
from lane.handover.predecessor import Predecessor
from lane.look.server import Board
from lane.net.questions import Questions
from lane.net.siblings import here
from lane.server.begun import Begin, always
from lane.session.parcel import Parcel
from lane.tally import PID, Count, Tally
from lane.users.bucket import Shared
from lane.users.presence import Presence

if TYPE_CHECKING:
    from lane.admin.everyone import Shelves
    from lane.admin.port import Place


@dataclass(frozen=True)
class Role:
    """What a process is in a server."""

    tally: Tally
    """The numbers of all processes that serve."""
    worker: int
    """The number of this one."""
    status: Control
    """Answers `lane status`."""
    ready: Callable[[int], None]
    """Called with the port as soon as it listens."""
    board: Board
    """What the processes share for their views."""
    pid: int
    """The process to send signals to."""
    stop: Callable[[], None] = lambda: None
    """Called when it ends, before its listeners are closed."""
    epoch: bytes | None = None
    """See `lane.server.server.Server`."""
    begin: Begin = always
    desk: socket.socket | None = None
    """A socket on which other processes ask for sessions: see `lane.handover`. None: nobody can."""
    desk_name: str = ""
    others: Others = field(default_factory=lambda: Others([]))
    """Those that this process asks."""
    before: Predecessor | None = None
    """The process whose place it takes."""
    upgrade: Callable[[], None] | None = None
    """Called on SIGUSR2."""
    blind: float = 0.0
    """See `lane.handover.succession.Inheritance`."""
    tell_lost: Callable[[], None] = lambda: None
    """Tells the other processes that one has died which may have begun sessions."""
    parcels: list[Parcel] = field(default_factory=list)
    """Sessions that were left at a restart."""
    keep: Callable[[Iterator[Parcel]], object] | None = None
    """Leaves sessions to the process after a restart."""
    hurry: "list[Callable[[], None]]" = field(default_factory=list)
    """Filled by `serve`: called when another process is about to take the place of the next one."""
    admin: "Place | None" = None
    """Where the admin port listens, if the processes share it."""
    shelves: "Shelves | None" = None
    """Where they leave what they have counted."""
    presence: Presence = field(default_factory=Presence)
    """Who is there, in all processes."""
    buckets: Shared | None = None
    """What users have left of their rates, if there are several processes."""

    def count(self, field: int) -> Count:
        """A number of this process."""
        return Count(self.tally, self.worker, field)

    def questions(self) -> Questions:
        """How it asks the other processes."""
        return Questions(here(), self.board.answers, lambda one: bool(self.tally.get(one, PID)))
