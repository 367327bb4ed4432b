"""The admin port of a process: `lane.admin.web` at the place that the configuration names."""

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lane.address import Address
from lane.admin.web import BACKLOG, Routes, WebServer
from lane.meeting import listen_at, remove
from lane.net.listen import listen_for_all


class Place:
    """Where the admin port listens. The workers of a server share it, as their parent opened it.

    Raises ConfigError if that fails.
    """

    def __init__(self, where: Address | Path) -> None:
        self._sockets: list[socket.socket]
        self._remove: Callable[[], None] = lambda: None
        self._trusted = isinstance(where, Path)
        if isinstance(where, Path):
            one, file = listen_at(where)
            self._sockets, self._remove = [one], partial(remove, where, file)
        else:
            self._sockets = listen_for_all(where, BACKLOG)

    def open(self, routes: Routes, secret: str | None) -> WebServer:
        """Answer there, in this process. Call it once."""
        return WebServer(self._sockets, routes, secret, trusted=self._trusted)

    def close(self) -> None:
        """Stop listening, if this process answers nothing there, and remove a socket of the file system."""
        for one in self._sockets:
            one.close()
        self._remove()
