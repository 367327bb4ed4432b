"""The control socket: a running client tells which transport it uses, and why; a server, what it has.

`lane.asking` is the other end.

With it a user can examine a fault without a restart and without the log. The socket is a file that only its
owner may open (`lane.meeting`). It costs little: requests and connections are bounded, and a slow reader is
dropped.

A request is one line of JSON, `{"follow": BOOL}`. The answer is a snapshot as one line of JSON. A follower
gets one each second and one at each change. `{"error": TEXT}` instead of a snapshot is the last line. With
`"ask": NAME` the request is for something else than the snapshot, such as the `view` of `lane.look`, or of a
client the `process` that `lane upgrade` needs. What a server tells is in `lane.server.status`. The snapshot
of a client:

    time, since    the current time, and when `choice` came into use: seconds since the epoch
    choice         the name of the lane (transport) that new sessions use; null for none
    reason         the reason for that choice, as text
    outage         `since` and `reason`, while no lane works; null otherwise, or without a recent check
    failure        `time` and `reason` of the last try that did not reach the server, and the time of the
                   `first` such try; null once the server answers
    sessions       the number of sessions
    lanes          a list; each has `name`, `alive` (whether it answers), `why` (the reason if it does not),
                   `carries`, `rtt`, `best_rtt` and `delay` (seconds), `loss` (0 to 1), `goodput` (bytes a
                   second), `limited` (the fraction of the last second, 0 to 1, with more data than the lane
                   accepted), `backlog` (seconds that an answer has waited behind data), `cost` (CPU time a
                   byte; 1: TLS over TCP), `silent` (seconds that an answer has been overdue). Unknown values
                   are null
    admin          where the admin port listens, as `--admin` takes it; null if there is none
    changes        the latest ones, each with `time`, `from`, `to` and `reason`
"""

import json
import logging
import os
import socket
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import gevent.pool
import gevent.socket as gsocket
from gevent.event import Event

from lane.address import Address
from lane.errors import ConfigError, ProtocolError
from lane.meeting import UNKNOWN, Where, default_path, identity, listen_at, remove
from lane.net.accept import Acceptor
from lane.supervisor import supervise

Snapshot = Callable[[], dict[str, Any]]
View = Callable[[float], dict[str, Any]]
"""Tells what it has, with only that part of its past that is newer than a time in seconds since the epoch."""

MAX_REQUEST = 4096
"""The longest request, bytes."""
MAX_CONNECTIONS = 16
REQUEST_TIME = 5.0
"""Seconds in which a request must arrive."""
SEND_TIME = 5.0
"""Seconds in which a line must be sent."""
PREPARE_TIME = 1.8
"""Seconds that the first snapshot may take to find out the current state."""
PERIOD = 1.0
"""Seconds between the lines to a follower without a change."""

log = logging.getLogger("lane.control")


class Control:
    """Answers at `path` with the results of `snapshot`. It listens only after `start`.

    `prepare(seconds)` is called before each snapshot. It finds out the current state within that time. `who`
    answers: `client` or `server`.
    """

    def __init__(
        self,
        path: Path,
        snapshot: Snapshot,
        prepare: Callable[[float], None] = lambda within: None,
        who: str = "client",
        answers: Mapping[str, Snapshot] | None = None,
    ) -> None:
        self.path = path
        self._who = who
        self._snapshot = snapshot
        self.answers: dict[str, Snapshot] = {**(answers or {})}
        """What else can be asked for, by name."""
        self.views: dict[str, View] = {}
        """The same, of what has a past. A follower gets that once, and then only what is new."""
        self._prepare = prepare
        self._pool = gevent.pool.Pool(MAX_CONNECTIONS)
        self._followers: set[Event] = set()
        self._acceptor: Any = None
        self._listener: Any = None
        self._file: tuple[int, int] | None = None

    @property
    def connections(self) -> int:
        """The number of connections."""
        return len(self._pool)

    def start(self) -> None:
        """Listen. Raises ConfigError if that fails, or if another client listens there."""
        listener, self._file = listen_at(self.path)
        self.share(listener)

    def share(self, listener: socket.socket) -> None:
        """Answer at a socket that listens at `path`, and whose file is somebody else's to remove."""
        self._listener = gsocket.socket(fileno=listener.detach())
        self._acceptor = supervise("the control socket", self._accept)

    def adopt(self, listener: socket.socket) -> None:
        """Answer at a socket that another process has opened at `path`, and left to this one."""
        with suppress(OSError):
            self._file = identity(self.path)
        self.share(listener)

    def lend(self) -> socket.socket | None:
        """A copy of the socket, for the process that takes the place of this one; None before `start`."""
        return socket.socket(fileno=os.dup(self._listener.fileno())) if self._listener is not None else None

    def pause(self) -> None:
        """Answer nobody: another process does."""
        if self._listener is not None:
            self._acceptor.kill()  # no limit: it only accepts connections

    def resume(self) -> None:
        """Answer again."""
        if self._listener is not None:
            self._acceptor = supervise("the control socket", self._accept)

    def changed(self) -> None:
        """Send a snapshot to all followers at once. Never blocks."""
        for follower in self._followers:
            follower.set()

    def close(self, *, left: bool = False) -> None:
        """End the connections and remove the socket, unless it was `left` to another process. Idempotent."""
        if self._listener is None:
            return
        # Remove the file before closing the socket. So a new client finds the path free or in use, and never
        # stale. If another process has replaced the file, its file stays.
        if not left:
            remove(self.path, self._file)
        self._acceptor.kill()  # no limit: it only accepts connections
        self._listener.close()
        self._listener = None
        self._pool.kill()  # no limit: they only read and write lines

    def _accept(self) -> None:
        acceptor = Acceptor(self._listener, f"connections on {self.path}")
        while True:
            sock, _ = acceptor.accept()
            try:
                self._welcome(sock)
            except BaseException:
                sock.close()
                raise

    def _welcome(self, sock: gsocket.socket) -> None:
        if self._pool.full():
            # Endless followers would otherwise keep others waiting without an answer.
            sock.setblocking(False)
            with sock, suppress(OSError):
                sock.send(_line({"error": "too many connections"}))
        else:
            self._pool.spawn(self._serve, sock)

    def _serve(self, sock: gsocket.socket) -> None:
        with sock, suppress(OSError):  # the other side is gone or too slow
            try:
                with gevent.Timeout(REQUEST_TIME, ProtocolError("no request in time")):
                    follow, asked = _read_request(sock, {*self.answers, *self.views})
            except ProtocolError as error:
                _send(sock, _line({"error": str(error)}))
                return
            changed = Event()
            self._followers.add(changed)
            try:
                self._prepare(PREPARE_TIME)
                snapshot = self._named(asked)
                while self._answer(sock, snapshot) and follow:
                    changed.wait(PERIOD)
                    changed.clear()
                    self._prepare(0.0)
            finally:
                self._followers.discard(changed)

    def _named(self, asked: str) -> Snapshot:
        if asked not in self.views:
            return self.answers.get(asked, self._snapshot)
        view, last = self.views[asked], 0.0

        def more() -> dict[str, Any]:
            nonlocal last
            found = view(last)
            last = found["now"]
            return found

        return more

    def _answer(self, sock: gsocket.socket, snapshot: Snapshot) -> bool:
        """Send one snapshot. Return whether there was one."""
        try:
            line = _line(snapshot())
        except (Exception, gevent.Timeout):  # a leaked Timeout is a bug too
            log.exception("no snapshot for %s", self.path)
            _send(sock, _line({"error": f"the {self._who} failed to say it; its log has the reason"}))
            return False
        _send(sock, line)
        return True


def open_control(
    where: Where,
    listen: Address,
    snapshot: Snapshot,
    prepare: Callable[[float], None] = lambda within: None,
    left: socket.socket | None = None,
) -> Control | None:
    """Start a Control for the client that listens on `listen`. None if there is none.

    `left`: the socket of the process whose place this one takes. It is used if it is at the right path.

    Raises ConfigError if a configured path cannot be used. If the default path cannot be used, that is only a
    warning in the log.
    """
    path = default_path(listen) if where == "auto" else where
    if left is not None and (path == "off" or Path(left.getsockname()).name != path.name):
        left.close()
        left = None
    if path == "off":
        return None
    control = Control(path, snapshot, prepare)
    if left is not None:
        control.adopt(left)
        return control
    try:
        control.start()
    except ConfigError as error:
        if where != "auto":
            raise
        log.warning("lane why will not work: %s", error)
        return None
    return control


def _read_request(sock: gsocket.socket, answers: Container[str]) -> tuple[bool, str]:
    """Read a request: whether the other side wants to follow, and what it asks for. Raises ProtocolError."""
    data = b""
    while b"\n" not in data:
        more = sock.recv(MAX_REQUEST + 1 - len(data))
        data += more
        if not more or len(data) > MAX_REQUEST:
            raise ProtocolError(f"expected one line of at most {MAX_REQUEST} bytes")
    try:
        request = json.loads(data.partition(b"\n")[0])
        follow, asked = request["follow"], request.get("ask", "")
    except (ValueError, RecursionError, TypeError, LookupError, AttributeError):
        follow, asked = None, ""
    if not isinstance(follow, bool):
        raise ProtocolError('expected {"follow": true} or {"follow": false}')
    if asked and (not isinstance(asked, str) or asked not in answers):
        raise ProtocolError(UNKNOWN)
    return follow, asked


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"


def _send(sock: gsocket.socket, line: bytes) -> None:
    """Send `line` within `SEND_TIME`. Raises OSError."""
    with gevent.Timeout(SEND_TIME, TimeoutError()):
        sock.sendall(line)
