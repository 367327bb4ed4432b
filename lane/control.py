"""The local socket on which a running client says which transport carries it, and why: both ends of it.

Whoever looks for a fault must be able to ask the client itself, without a restart and without its log. The
socket is a file that only its owner may open (`lane.meeting`). Whatever happens on it costs the client
nothing: requests and connections are bounded, and who reads too slowly is dropped.

A request is one line of JSON, `{"follow": BOOL}`. The answer is a snapshot as one line of JSON; to who
follows, one a second and one at each change. `{"error": TEXT}` instead of it is the last line. A snapshot:

    time, since    now, and since when `choice` carries: seconds since the epoch
    choice         the name of the lane (transport) that new sessions use; null for none
    reason         why that one, for people
    outage         `since` and `reason`, while no lane works; else null, and where nobody asked lately
    failure        `time` and `reason` of the last try that did not reach the server, and when that was so
                   `first`; null once it answers
    sessions       how many there are
    lanes          a list; each has `name`, `alive` (whether it answers), `why` (it does not, for people),
                   `carries`, `rtt`, `best_rtt` and `delay` (seconds), `loss` (0 to 1), `goodput` (bytes a
                   second), `limited` (part of the last second, 0 to 1, in which there was more to send than
                   it took), `backlog` (seconds that an answer has waited behind data), `cost` (CPU for a
                   byte; 1: TLS over TCP), `silent` (seconds that an answer has been due). Null is what is
                   not known
    changes        the latest, each with `time`, `from`, `to` and `reason`
"""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import gevent
import gevent.pool
import gevent.socket as gsocket
from gevent.event import Event

from lane.address import Address
from lane.errors import ConfigError, ProtocolError, Unreachable
from lane.meeting import Unfit, connect, default_path, identity, listen_at
from lane.net.accept import Acceptor
from lane.supervisor import supervise

Where = Path | Literal["auto", "off"]
"""A socket; `auto`: the one of the port that the client listens on; `off`: none."""
Snapshot = Callable[[], dict[str, Any]]

MAX_REQUEST = 4096
"""Bytes of a request."""
MAX_ANSWER = 1 << 20
"""Bytes of an answer that are read."""
MAX_CONNECTIONS = 16
REQUEST_TIME = 5.0
"""Seconds for a request to arrive."""
SEND_TIME = 5.0
"""Seconds for a line to leave."""
ANSWER_TIME = 10.0
"""Seconds that who asks waits for a line."""
PREPARE_TIME = 1.8
"""Seconds that the first snapshot may take, so that what it says is true now."""
PERIOD = 1.0
"""Seconds between the lines to a follower when nothing changes."""

log = logging.getLogger("lane.control")


class Control:
    """Answers at `path` with what `snapshot` returns. Nothing is listened on before `start`.

    `prepare` finds out what is true now, and may take so many seconds: it is called before each snapshot.
    """

    def __init__(
        self, path: Path, snapshot: Snapshot, prepare: Callable[[float], None] = lambda within: None
    ) -> None:
        self.path = path
        self._snapshot = snapshot
        self._prepare = prepare
        self._pool = gevent.pool.Pool(MAX_CONNECTIONS)
        self._followers: set[Event] = set()
        self._acceptor: Any = None
        self._listener: Any = None
        self._file: tuple[int, int] | None = None

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._pool)

    def start(self) -> None:
        """Listen. Raises ConfigError if that can't be done, or where another client listens."""
        self._listener, self._file = listen_at(self.path)
        self._acceptor = supervise("the control socket", self._accept)

    def changed(self) -> None:
        """Have the followers get a snapshot at once. Never blocks."""
        for follower in self._followers:
            follower.set()

    def close(self) -> None:
        """End the connections and remove the socket. Idempotent."""
        if self._listener is None:
            return
        # It goes while it is still listened on: a new client of this path finds it free or in use, never
        # stale. If somebody has put another one there, that one stays.
        with suppress(OSError):
            if identity(self.path) == self._file:
                self.path.unlink()
        self._acceptor.kill()  # no limit: it only accepts
        self._listener.close()
        self._listener = None
        self._pool.kill()  # no limit: they only read and write

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
            # Who followed for ever would otherwise keep everybody else waiting without a word.
            sock.setblocking(False)
            with sock, suppress(OSError):
                sock.send(_line({"error": "too many connections"}))
        else:
            self._pool.spawn(self._serve, sock)

    def _serve(self, sock: gsocket.socket) -> None:
        with sock, suppress(OSError):  # the other side is gone or too slow
            try:
                with gevent.Timeout(REQUEST_TIME, ProtocolError("no request in time")):
                    follow = _read_request(sock)
            except ProtocolError as error:
                _send(sock, _line({"error": str(error)}))
                return
            changed = Event()
            self._followers.add(changed)
            try:
                self._prepare(PREPARE_TIME)
                while self._answer(sock) and follow:
                    changed.wait(PERIOD)
                    changed.clear()
                    self._prepare(0.0)
            finally:
                self._followers.discard(changed)

    def _answer(self, sock: gsocket.socket) -> bool:
        """Send one snapshot: whether there was one."""
        try:
            line = _line(self._snapshot())
        except (Exception, gevent.Timeout):  # a Timeout that leaks is a bug like any other
            log.exception("no snapshot for %s", self.path)
            _send(sock, _line({"error": "the client failed to say it; its log has the reason"}))
            return False
        _send(sock, line)
        return True


def open_control(
    where: Where, listen: Address, snapshot: Snapshot, prepare: Callable[[float], None] = lambda within: None
) -> Control | None:
    """A Control that was started for the client that listens on `listen`; None where there is none.

    Raises ConfigError if a path that was asked for can't be used. The default one is no reason not to run:
    that is a warning in the log.
    """
    if where == "off":
        return None
    control = Control(default_path(listen) if where == "auto" else where, snapshot, prepare)
    try:
        control.start()
    except ConfigError as error:
        if where != "auto":
            raise
        log.warning("lane why will not work: %s", error)
        return None
    return control


def ask(path: Path, *, follow: bool = False) -> Iterator[dict[str, Any]]:
    """The snapshot of the client at `path`; with `follow` one after the other, for as long as there are some.

    Blocks the whole process. Raises Unreachable if nobody answers (any more), or no client of lane, or
    it may be another user.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER_TIME)
            connect(sock, path)
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why
                sock.sendall(_line({"follow": follow}))
            with sock.makefile("rb") as reader:
                while line := reader.readline(MAX_ANSWER):
                    yield _parse_answer(path, line)
                    if not follow:
                        return
    except Unfit as error:
        raise Unreachable(f"{path} is not asked: {error}") from None
    except OSError as error:
        raise Unreachable(f"no client answers at {path}: {error.strerror or error}") from None
    raise Unreachable(f"the client at {path} has ended")


def _parse_answer(path: Path, line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise Unreachable(f"what answers at {path} is no client of lane")
    if "error" in answer:
        raise Unreachable(f"the client at {path} says: {answer['error']}")
    return answer


def _read_request(sock: gsocket.socket) -> bool:
    """Whether the other side wants to follow. Raises ProtocolError."""
    data = b""
    while b"\n" not in data:
        more = sock.recv(MAX_REQUEST + 1 - len(data))
        data += more
        if not more or len(data) > MAX_REQUEST:
            raise ProtocolError(f"expected one line of at most {MAX_REQUEST} bytes")
    try:
        follow = json.loads(data.partition(b"\n")[0])["follow"]
    except (ValueError, RecursionError, TypeError, LookupError):
        follow = None
    if not isinstance(follow, bool):
        raise ProtocolError('expected {"follow": true} or {"follow": false}')
    return follow


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"


def _send(sock: gsocket.socket, line: bytes) -> None:
    """Send it all in time. Raises OSError."""
    with gevent.Timeout(SEND_TIME, TimeoutError()):
        sock.sendall(line)
