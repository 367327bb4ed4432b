"""The admin port of a process: `lane.admin.web` at the place that the configuration names."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lane.address import Address
from lane.admin.web import BACKLOG, Routes, WebServer
from lane.meeting import listen_at, remove
from lane.net.listen import listen


class Place:
    """Where the admin port listens. A socket of the file system is opened once, for all workers of a server.

    Raises ConfigError if that fails.
    """

    def __init__(self, where: Address | Path) -> None:
        self.where = where
        self._socket: Any = None
        self._remove: Callable[[], None] = lambda: None
        if isinstance(where, Path):
            self._socket, file = listen_at(where)
            self._remove = partial(remove, where, file)

    def open(self, routes: Routes, secret: str | None) -> WebServer:
        """Answer there, in this process. Raises ConfigError."""
        if isinstance(self.where, Path):
            return WebServer([self._socket], routes, secret, trusted=True)
        return WebServer(listen(self.where, BACKLOG), routes, secret)

    def close(self) -> None:
        """Remove the socket of the file system, if there is one."""
        self._remove()
