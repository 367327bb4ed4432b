"""Listening sockets that the parent of several workers opens for them.

The kernel numbers the sockets of a port in the order in which they began to listen, and the programs of
`lane.net.steering` rely on these numbers. So one process opens them all, in the order of the workers, and
keeps them for ever: closing one would number the others anew. A worker that is started again gets its own
ones. Transports notice nothing of it: `lane.net.listen` gives them what was prepared.

What is to be opened, is learned from a rehearsal: a process of its own in which the transports listen as
they would without workers (`Rehearsal`).
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from lane.address import Address


class Wanted(NamedTuple):
    """What one call of `lane.net.listen` opened."""

    kind: int
    """SOCK_STREAM or SOCK_DGRAM."""
    host: str
    port: int
    """As they were asked for: the port may be 0."""
    backlog: int
    quic: bool
    """See `lane.net.listen.bind_udp`."""
    bound: tuple[tuple[str, int], ...]
    """The address of each socket: all with one port."""


class Prepared:
    """The sockets of this worker, by what they are for. `transports` get copies, so they may close them."""

    def __init__(self, found: Sequence[tuple[Wanted, Sequence[socket.socket]]]) -> None:
        self._found = found
        self._taken: set[int] = set()

    def take(self, kind: int, endpoint: Address) -> list[int] | None:
        """Copies of the descriptors for `endpoint`; None if there are none.

        Each set is given once. After that an address of a UDP socket gets that socket alone again, since a
        transport replaces one that has failed.
        """
        for number, (wanted, socks) in enumerate(self._found):
            asked = wanted.kind == kind and wanted.host == endpoint.host
            if number not in self._taken and asked and endpoint.port in (wanted.port, wanted.bound[0][1]):
                self._taken.add(number)
                return [os.dup(sock.fileno()) for sock in socks]
        for wanted, socks in self._found:
            for sock in socks:
                if kind == socket.SOCK_DGRAM == wanted.kind and sock.getsockname()[:2] == tuple(endpoint):
                    return [os.dup(sock.fileno())]
        return None

    @property
    def found(self) -> Sequence[tuple[Wanted, Sequence[socket.socket]]]:
        """All of them."""
        return self._found

    def keep(self, wanted: Wanted, socks: Sequence[Any]) -> list[int]:
        """Keep copies of sockets that were opened here, for the next process. Returns more copies."""
        kept = [socket.socket(fileno=os.dup(sock.fileno())) for sock in socks]
        self._found = [*self._found, (wanted, kept)]
        self._taken.add(len(self._found) - 1)
        return [sock.detach() for sock in socks]

    def drop_others(self) -> None:
        """Close those that nothing asked for: whoever connected there would wait in vain."""
        for number, (_, socks) in enumerate(self._found):
            for sock in socks if number not in self._taken else ():
                sock.close()
        self._found = [one for number, one in enumerate(self._found) if number in self._taken]
        self._taken = {*range(len(self._found))}

    def close(self) -> None:
        """Close them here. Other processes keep what they have."""
        for _, socks in self._found:
            for sock in socks:
                sock.close()
        self._found = ()

    def stop(self) -> None:
        """Let the kernel refuse new TCP connections here, although other processes have the sockets too."""
        for wanted, socks in self._found:
            for sock in socks if wanted.kind == socket.SOCK_STREAM else ():
                with suppress(OSError):  # it was done before
                    sock.shutdown(socket.SHUT_RDWR)


class Rehearsal:
    """Notes what is opened."""

    def __init__(self) -> None:
        self._noted: list[tuple[Wanted, Sequence[Any]]] = []

    @property
    def wanted(self) -> list[Wanted]:
        """What was noted and is still open."""
        return [wanted for wanted, socks in self._noted if all(sock.fileno() >= 0 for sock in socks)]

    def note(self, kind: int, endpoint: Address, opened: Sequence[Any], backlog: int, *, quic: bool) -> None:
        """Note that `opened` listen for `endpoint` now."""
        self._noted.append((wanted_of(kind, endpoint, opened, backlog, quic=quic), opened))


def wanted_of(kind: int, endpoint: Address, opened: Sequence[Any], backlog: int, *, quic: bool) -> Wanted:
    """What `opened` is for."""
    bound = tuple((str(host), int(port)) for host, port in (sock.getsockname()[:2] for sock in opened))
    return Wanted(kind, endpoint.host, endpoint.port, backlog, quic, bound)


mine: Prepared | None = None
"""What this process has. It is set before anything listens, if at all."""
keeps = False
"""Whether `mine` also keeps what this process opens, so that the next one can go on with it."""
rehearsal: Rehearsal | None = None
"""Set in the process that only finds out what is to be opened."""
