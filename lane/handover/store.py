"""Sessions over a restart: systemd keeps their sockets, and a file in memory with what they are.

A service manager that sets `FDSTORE` keeps descriptors of a service while that restarts
(FileDescriptorStoreMax= in systemd.service(5)). A server that is stopped leaves its listening sockets and its
sessions there, and the next one goes on with them. Clients connect meanwhile, and wait in the kernel; they
come back to their sessions within their `--resume-grace`. The protocol is that of sd_notify(3) and
sd_listen_fds(3).
"""

import logging
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

from lane.errors import LaneError, ProtocolError
from lane.handover.succession import FORMAT, Inheritance
from lane.session.parcel import Parcel, pack, unpack

FIRST = 3
"""The number of the first descriptor that a service manager passes."""
PREFIX = "lane-"
"""The names of lane's descriptors begin so. A number follows, or STATE."""
STATE = PREFIX + "state"
_LENGTH = struct.Struct("!I")

log = logging.getLogger("lane.handover")


class Store:
    """The descriptor store at the socket `where` of the service manager. It takes `most` descriptors."""

    def __init__(self, where: str, most: int) -> None:
        self._where = "\0" + where[1:] if where.startswith("@") else where
        self._most = most
        self._numbers: dict[tuple[int, int], int] = {}  # by the identity of a socket: it is kept once

    @classmethod
    def found(cls) -> "Store | None":
        """The store of this process; None if it has none."""
        where, most = os.environ.get("NOTIFY_SOCKET", ""), os.environ.get("FDSTORE", "")
        usable = where and most.isdecimal() and int(most) and hasattr(os, "memfd_create")
        return cls(where, int(most)) if usable else None

    def keep(self, left: Inheritance, parcels: Iterable[Parcel]) -> int:
        """Leave the sockets and sessions of this process to the next one. Returns the number of sessions.

        A session for which there is no room ends.
        """
        kept = lost = 0
        value, descriptors = left.plain()
        with os.fdopen(os.memfd_create(STATE), "w+b") as file:
            file.write(_record([FORMAT, monotonic(), value, [self._put(one) for one in descriptors]]))
            for parcel in parcels:
                with suppress(OSError):
                    numbers = [self._put(one) for one in parcel.descriptors]
                    if None not in numbers:
                        file.write(_record([parcel.state, numbers]))
                        kept += 1
                        lost -= 1
                lost += 1
                parcel.close()
            file.flush()
            self._send(STATE, file.fileno())
        if lost:
            log.warning("%d sessions end: raise FileDescriptorStoreMax= of the unit (%d)", lost, self._most)
        return kept

    def _put(self, descriptor: int) -> int | None:
        """Keep a descriptor. Returns its number, or None if there is no room. Raises OSError."""
        info = os.fstat(descriptor)
        identity = info.st_dev, info.st_ino
        if identity not in self._numbers:
            number = len(self._numbers)
            if number + 1 >= self._most:  # one is for the state
                return None
            self._send(f"{PREFIX}{number}", descriptor)
            self._numbers[identity] = number
        return self._numbers[identity]

    def _send(self, name: str, descriptor: int) -> None:
        # It would drop a descriptor whose peer has gone, unless it is told not to look.
        text = f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0".encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(5.0)
            sock.sendmsg([text], rights, 0, self._where)


def collect(grace: float, workers: int) -> tuple[Inheritance, list[Parcel]] | None:
    """What the process before this one has left; None without it.

    Sessions are given up after `grace` seconds, and so are sockets that do not suit the number of `workers`.
    """
    passed = _passed()
    if not passed:
        return None
    for name in passed:
        _forget(name)
    parcels: list[Parcel] = []
    left = None
    try:
        if STATE in passed:
            records = _records(passed.pop(STATE))
            form, at, value, numbers = next(records)
            if form != FORMAT:
                raise ProtocolError(f"it is of format {form}, and this version takes {FORMAT}")
            used = _Descriptors(passed)
            left = Inheritance.of(value, used.of(numbers))
            left = left if left.workers == workers else left.without_sockets()
            if monotonic() - at < grace:
                parcels = [Parcel(state, used.of(needed)) for state, needed in records]
    except (OSError, LaneError, LookupError, TypeError, ValueError) as error:
        log.warning("what the server has left before its restart is not used: %s", error)
        parcels, left = [], None
    for descriptor in passed.values():  # of those that are used there are copies
        os.close(descriptor)
    return None if left is None else (left, parcels)


class _Descriptors:
    """Copies of descriptors by their names, since sessions may share a port."""

    def __init__(self, passed: dict[str, int]) -> None:
        self._passed = passed

    def of(self, numbers: list[int]) -> list[int]:
        return [os.dup(self._passed[f"{PREFIX}{number}"]) for number in numbers]


def _passed() -> dict[str, int]:
    """The descriptors of lane that the service manager passes, by name."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found = {name: FIRST + at for at, name in enumerate(names) if name.startswith(PREFIX)}
    for descriptor in found.values():
        os.set_inheritable(descriptor, False)
    return found


def _forget(name: str) -> None:
    """Have the service manager close a descriptor: should this process die, its peer must notice."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(5.0)
        sock.sendto(
            f"FDSTOREREMOVE=1\nFDNAME={name}".encode(), "\0" + where[1:] if where[:1] == "@" else where
        )


def _record(value: Any) -> bytes:
    data = pack(value)
    return _LENGTH.pack(len(data)) + data


def _records(descriptor: int) -> Iterator[Any]:
    """The records of a state. Raises ProtocolError."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        while head := file.read(_LENGTH.size):
            (length,) = _LENGTH.unpack(head)
            yield unpack(file.read(length))
