"""A new process that takes the place of a running server or client: how it starts, and what it gets first.

`lane upgrade` and SIGUSR2 have the running process start its command again, from what is installed now. The
two share a link, a local socket. The old process sends its `Inheritance` there. The new one answers
`{"serving": True}` once it serves, or `{"error": TEXT}`. Its workers take over from those of the old one
(`lane.handover.predecessor`, `lane.handover.retirement`). If the new process ends before it serves, nothing
has changed.
"""

import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lane import __version__
from lane.errors import Closed, ConfigError, Fatal, ProtocolError
from lane.handover import channel
from lane.handover.notes import VARIABLE
from lane.meeting import Unfit, connect, listen_at
from lane.net.prepared import Wanted
from lane.users.presence import Lent

FORMAT = 1
"""The version of all that processes hand over: messages, and frozen sessions."""
START_TIME = 60.0
"""Seconds that a new process has until it serves."""
_CHUNK = 200  # descriptors in one message


@dataclass(frozen=True)
class Inheritance:
    """What the new process gets."""

    epoch: bytes
    """See `lane.server.server.Server`: sessions go on, so it stays. Empty for a client."""
    port: int
    names: list[str]
    """Of the desks of all workers: see `lane.handover.exchange`."""
    groups: list[tuple[Wanted, list[list[socket.socket]]]]
    """What transports want, with the sockets for it: for each worker, one on each address."""
    inboxes: list[socket.socket]
    """Of all workers: the ends to send to them (`lane.net.siblings`)."""
    status: socket.socket | None
    """The control socket: the one that answers `lane status` or `lane why`."""
    admin: list[socket.socket] = field(default_factory=list)
    """Those of the admin port."""
    blind: float = 0.0
    """Seconds for which sessions of workers that have died must not be begun again."""
    presence: Lent | None = None
    """Who is there (`lane.users.presence`)."""
    known: dict[str, Any] = field(default_factory=dict)
    """What a client has learnt: see `lane.cli.client_succession`."""

    @property
    def workers(self) -> int:
        """The number of workers that have sockets; 0 without sockets."""
        return len(self.groups[0][1]) if self.groups else 0

    def without_sockets(self) -> "Inheritance":
        """It without its sockets, which are closed."""
        for _, group in self.groups:
            for socks in group:
                for sock in socks:
                    sock.close()
        return replace(self, groups=[])

    def plain(self) -> tuple[dict[str, Any], list[int]]:
        """It as a plain value, and descriptors, which stay its own."""
        rows = [[*wanted[:5], [[*one] for one in wanted.bound]] for wanted, _ in self.groups]
        value = {
            "format": FORMAT,
            "version": __version__,
            "epoch": self.epoch,
            "port": self.port,
            "names": self.names,
            "wanted": rows,
            "counts": [[len(socks) for socks in group] for _, group in self.groups],
            "inboxes": len(self.inboxes),
            "admin": len(self.admin),
            "status": self.status is not None,
            "blind": self.blind,
            "presence": self.presence[1] if self.presence else None,
            "known": self.known,
        }
        socks = [sock for _, group in self.groups for one in group for sock in one] + self.inboxes
        status = [self.status] if self.status else []
        lent = [self.presence[0]] if self.presence else []
        return value, [sock.fileno() for sock in [*socks, *status, *self.admin]] + lent

    @classmethod
    def of(cls, value: dict[str, Any], descriptors: list[int]) -> "Inheritance":
        """The one that `plain` has described. It takes over the descriptors."""
        half = value.get("presence")  # an earlier version does not lend it
        presence = None if half is None else (descriptors.pop(), half)
        socks = iter([socket.socket(fileno=one) for one in descriptors])
        groups = [
            (_wanted(row), [[next(socks) for _ in range(number)] for number in group])
            for row, group in zip(value["wanted"], value["counts"], strict=True)
        ]
        inboxes = [next(socks) for _ in range(value["inboxes"])]
        status = next(socks) if value["status"] else None
        admin = [next(socks) for _ in range(value["admin"])]
        return cls(
            value["epoch"],
            value["port"],
            value["names"],
            groups,
            inboxes,
            status,
            admin,
            float(value["blind"]),
            presence,
            value.get("known", {}),
        )

    def send(self, link: Any) -> None:
        """Send it to the new process. Raises OSError."""
        value, descriptors = self.plain()
        channel.send(link, [value, len(descriptors)])
        for at in range(0, len(descriptors), _CHUNK):
            channel.send(link, None, descriptors[at : at + _CHUNK])

    @classmethod
    def receive(cls, link: Any) -> "Inheritance":
        """Receive it from the old process. Raises Fatal if that is not possible."""
        try:
            (value, total), _ = channel.receive(link)
            if value["format"] != FORMAT:
                raise Fatal(
                    f"lane {value['version']} hands over its sessions in format {value['format']}, and this"
                    f" version takes format {FORMAT}: restart it"
                )
            descriptors: list[int] = []
            while len(descriptors) < total:
                descriptors += channel.receive(link)[1]
            return cls.of(value, descriptors)
        except (OSError, Closed, ProtocolError, LookupError, TypeError, ValueError) as error:
            raise Fatal(f"the running process did not hand over its sockets: {error}") from None

    def for_later(self) -> "Inheritance":
        """What is left of it after the end of this process: no other process can be asked any more."""
        return replace(self, names=[], inboxes=[], status=None, admin=[], presence=None)


def _wanted(row: list[Any]) -> Wanted:
    kind, host, port, backlog, quic, bound = row
    return Wanted(kind, host, port, backlog, quic, tuple((one, number) for one, number in bound))


class Successor:
    """A new process, in the eyes of the old one. `link`: our end of the link, which is the caller's.

    `process`: one that was started here, and is ended if it does not serve.
    """

    def __init__(self, link: socket.socket, process: "subprocess.Popen[bytes] | None" = None) -> None:
        self.link = link
        self._process = process

    @classmethod
    def start(cls) -> "Successor":
        """Start this process's own command again. Raises ConfigError."""
        link, theirs = socket.socketpair()
        environment = os.environ | {VARIABLE: str(theirs.fileno())}
        try:
            process = subprocess.Popen(  # noqa: S603  (its own command)
                [sys.executable, *sys.orig_argv[1:]],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        except OSError as error:
            link.close()
            raise ConfigError(f"the new process cannot be started: {error.strerror}") from None
        finally:
            theirs.close()
        return cls(link, process)

    @property
    def name(self) -> str:
        """For the log."""
        return f"process {self._process.pid}" if self._process is not None else "another process"

    @property
    def pid(self) -> int | None:
        """Its number, if it was started here."""
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        """End a process that does not serve."""
        if self._process is not None:
            with suppress(OSError):
                self._process.kill()  # no limit: a process, no greenlet
            self._process.wait()  # no limit: it was killed

    def hear(self, link: Any) -> str | None:
        """What it says on `link`, our end: None that it serves, or why it does not."""
        try:
            value, _ = channel.receive(link)
        except (OSError, Closed, ProtocolError):
            return f"the new process has ended ({self._how()})"
        if value == {"serving": True}:
            return None
        return str(value.get("error")) if isinstance(value, dict) else "the new process is another program"

    def _how(self) -> str:
        if self._process is None:
            return "without a word"
        try:
            return f"exit status {self._process.wait(0.5)}"
        except subprocess.TimeoutExpired:
            return "without a word"


def listen_for_successor(path: Path) -> socket.socket:
    """A socket at `path`, on which a process that is started there connects. Raises ConfigError."""
    return listen_at(path)[0]


_link: socket.socket | None = None


def inherited(path: Path | None = None) -> socket.socket | None:
    """The link to the process whose place this one takes; None if there is none.

    `path`: where a server listens for that, if it has not started this process.
    """
    global _link
    if _link is None and (number := os.environ.pop(VARIABLE, "")):
        _link = socket.socket(fileno=int(number))
    if _link is None and path is not None and path.exists():
        _link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connect(_link, path, named=True)
        except (OSError, Unfit):  # it has died, or nobody of ours listens there: `listen_at` says so
            _link.close()
            _link = None
    return _link


def fail(why: str) -> None:
    """Tell the old process, if there is one, why this one does not serve."""
    link = inherited()
    if link is not None:
        with suppress(OSError):
            channel.send(link, {"error": why})
