"""The admin port of a process: `lane.admin.web` at the place that the configuration names."""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lane.address import Address
from lane.admin.web import BACKLOG, Routes, WebServer
from lane.meeting import identity, listen_at, remove
from lane.net.listen import listen_for_all


class Place:
    """Where the admin port listens. The workers of a server share it, as their parent opened it.

    `left`: the sockets of the process whose place this one takes, if it had any. Raises ConfigError if it
    can't listen.
    """

    def __init__(self, where: Address | Path, left: Sequence[socket.socket] = ()) -> None:
        self._sockets: list[socket.socket]
        self._where = where
        self._remove: Callable[[], None] = lambda: None
        self._trusted = isinstance(where, Path)
        if left and _suit(left, where):
            self._sockets = [*left]
            if isinstance(where, Path):
                self._remove = partial(remove, where, identity(where))
            return
        for one in left:
            one.close()
        if isinstance(where, Path):
            one, file = listen_at(where)
            self._sockets, self._remove = [one], partial(remove, where, file)
        else:
            self._sockets = listen_for_all(where, BACKLOG)

    def open(self, routes: Routes, secret: str | None) -> WebServer:
        """Answer there, in this process."""
        return WebServer([one.dup() for one in self._sockets], routes, secret, trusted=self._trusted)

    @property
    def name(self) -> str:
        """Where it listens, as `--admin` takes it."""
        if isinstance(self._where, Path):
            return f"unix:{self._where.absolute()}"
        return str(Address(*self._sockets[0].getsockname()[:2]))

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """Its sockets, for the process that takes the place of this one."""
        return self._sockets

    def close(self, *, left: bool = False) -> None:
        """Stop listening. A socket of the file system is removed, unless it was `left` to another process."""
        for one in self._sockets:
            one.close()
        if not left:
            self._remove()


def _suit(socks: Sequence[socket.socket], where: Address | Path) -> bool:
    """Whether sockets listen where they should."""
    try:
        names = [sock.getsockname() for sock in socks]
        if isinstance(where, Path):
            return names == [str(where)] and bool(identity(where))
    except OSError:
        return False
    return all(isinstance(name, tuple) and where.port in (0, name[1]) for name in names)
