"""The network below a transport: peers that use TCP or UDP, but not the transport's protocol.

The author of a transport needs to declare nothing. A forwarder is placed between a real dial and a real
listener, with TCP and UDP sockets, and records the traffic. This reveals which kind of socket the transport
uses, how a genuine client begins, and how a server answers.
"""

import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import gevent
from gevent import socket as gsocket
from gevent.pool import Group

from lane.errors import LaneError
from lane.stream import Address, ClientTLS, ServerTLS, Transport

_LINGER_NOT = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds, so that close sends RST
_PORT_TRIES = 20
_LARGEST = 65535


@dataclass(slots=True)
class Recording:
    """One handshake, as the forwarder recorded it."""

    said: list[tuple[bool, bytes]] = field(default_factory=list)
    """The pieces in order: whether the client sent it, and its bytes. Over UDP each is a datagram."""
    kind: str | None = None
    """`tcp`, `udp`, or None if the dial used neither."""

    def flights(self, of_client: bool) -> list[list[bytes]]:
        """The pieces of one side, grouped by its turns."""
        turns = groupby(self.said, key=lambda one: one[0])
        return [[data for _, data in turn] for who, turn in turns if who == of_client]

    def beginnings(self, of_client: bool) -> list[list[bytes]]:
        """Incomplete starts of one side's handshake."""
        flights = self.flights(of_client)
        if not flights:
            return []
        first, more = flights[0], len(flights) > 1
        if self.kind == "udp":
            found = [[first[0][: len(first[0]) // 2]], first[: len(first) // 2], first if more else []]
        else:
            data = b"".join(first)
            found = [[data[:size]] for size in (1, len(data) // 2, len(data) - 1)] + [[data] if more else []]
        return [one for one in found if any(one) and (more or one != first)]

    def garbage(self, of_client: bool) -> list[list[bytes]]:
        """Bytes that are not a handshake of any transport. The last ones begin like this handshake."""
        found = [
            [b"\n"],
            [b"GET / HTTP/1.1\r\nHost: server.test\r\n\r\n"],
            [b"\x16\x03\x01\xff\xff" + b"\xff" * 600],
            [bytes(1200)],
            [b"\xff" * 1200] * 50,
            [bytes(range(256)) * 4] * 20,
        ]
        for flight in self.flights(of_client)[:1]:
            first = flight[0]
            half = len(first) // 2
            found += [[_inverted(first)], [_inverted(first[:half]) + first[half:]]]
            if self.kind == "tcp" and first[half:] and len(self.flights(of_client)) > 1:
                found.append([first[:half] + _inverted(first[half:])])
        return found


def _inverted(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


def record(transport: Transport, at: Address, tls: ServerTLS, client: ClientTLS) -> Recording:
    """Record a handshake with a new listener beside the one at `at`. Both ends are closed again."""
    recording = Recording()
    listener = transport.listen(Address(at.host, 0), tls)
    accepting = gevent.spawn(listener.accept)
    forwarder = _Forwarder(reachable(listener.address), recording)
    try:
        try:
            carrier = transport.dial(forwarder.address, client)
        except LaneError:
            if recording.kind is None:  # the transport has its own network
                return recording
            raise
        accepted = accepting.get()
        found = Recording([*recording.said], recording.kind)
        carrier.close()
        accepted.close()
    finally:
        forwarder.close()
        accepting.kill()
        listener.close()
    return found


def reachable(address: Address) -> Address:
    """The address at which a listener on `address` can be reached."""
    return address if address.host not in ("", "::", "0.0.0.0") else Address("127.0.0.1", address.port)


class _Forwarder:
    """Forwards TCP and UDP traffic to one port, and records it."""

    def __init__(self, target: Address, recording: Recording) -> None:
        self._target = target
        self._recording = recording
        tcp, udp = _one_port(target.host)
        self.address = Address(*tcp.getsockname()[:2])
        self._sockets = [tcp, udp]
        self._pumps = Group()
        self._pumps.spawn(self._take_tcp, tcp)
        self._pumps.spawn(self._take_udp, udp)

    def close(self) -> None:
        """Close all connections."""
        self._pumps.kill()
        for sock in self._sockets:
            sock.close()

    def _heard(self, kind: str, of_client: bool, data: bytes) -> None:
        self._recording.kind = kind
        self._recording.said.append((of_client, data))

    def _take_tcp(self, server: Any) -> None:
        while True:
            near, _ = server.accept()
            self._sockets.append(near)
            self._recording.kind = "tcp"
            try:
                far = _connect("tcp", self._target)
            except OSError:  # the target refuses: so does the forwarder
                near.close()
                continue
            self._sockets.append(far)
            self._pumps.spawn(self._pump, near, far, True)
            self._pumps.spawn(self._pump, far, near, False)

    def _pump(self, source: Any, sink: Any, of_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_LARGEST):
                self._heard("tcp", of_client, data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _take_udp(self, server: Any) -> None:
        links: dict[Any, Any] = {}
        while True:
            data, client = server.recvfrom(_LARGEST)
            if client not in links:
                links[client] = far = _connect("udp", self._target)
                self._sockets.append(far)
                self._pumps.spawn(self._answer, far, server, client)
            self._heard("udp", True, data)
            with suppress(OSError):
                links[client].send(data)

    def _answer(self, far: Any, server: Any, client: Any) -> None:
        with suppress(OSError):
            while True:
                data = far.recv(_LARGEST)
                self._heard("udp", False, data)
                server.sendto(data, client)


def _one_port(host: str) -> tuple[Any, Any]:
    """A listening TCP socket and a UDP socket, both on the same port of `host`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for left in reversed(range(_PORT_TRIES)):
        tcp = gsocket.socket(family, socket.SOCK_STREAM)
        tcp.bind((host, 0))
        tcp.listen()
        udp = gsocket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            if not left:
                raise
        else:
            return tcp, udp
    raise AssertionError("the last try returns or raises")


def _connect(kind: str, target: Address) -> Any:
    """A connected socket. Not from `create_connection`, which resolves addresses in threads that linger."""
    sock = gsocket.socket(
        socket.AF_INET6 if ":" in target.host else socket.AF_INET,
        socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM,
    )
    try:
        sock.connect(target)
    except BaseException:  # the greenlet may be killed
        sock.close()
        raise
    return sock


class Stranger:
    """A peer that knows only TCP or UDP (`kind`)."""

    def __init__(self, kind: str, address: Address) -> None:
        self._tcp = kind == "tcp"
        self._sock = _connect(kind, reachable(address))

    def say(self, pieces: Iterable[bytes], pause: float = 0) -> None:
        """Send `pieces`, one every `pause` seconds, until the other side closes."""
        with suppress(OSError):
            for piece in pieces:
                self._sock.sendall(piece)
                gevent.sleep(pause)

    def leave(self, how: str) -> None:
        """Leave with `close`, `reset`, or `end`, which waits for the other side. UDP has only `close`."""
        if self._tcp and how == "reset":
            reset(self._sock)
        elif self._tcp and how == "end":
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            self.wait()
        self._sock.close()

    def wait(self) -> None:
        """Wait until the other side closes the connection."""
        with suppress(OSError):
            while self._sock.recv(_LARGEST):
                pass


class BadServer:
    """Sends `pieces` to each client over TCP or UDP (`kind`), and then leaves.

    `leave` is `close`, `reset`, or `stay`, which keeps the connection open.
    """

    def __init__(self, kind: str, pieces: Sequence[bytes], leave: str) -> None:
        self._pieces, self._leave = pieces, leave
        tcp, udp = _one_port("127.0.0.1")
        self.address = Address(*tcp.getsockname()[:2])
        self._sockets = [tcp, udp]
        self._serving = gevent.spawn(*((self._take_tcp, tcp) if kind == "tcp" else (self._take_udp, udp)))

    def close(self) -> None:
        """Close all connections."""
        self._serving.kill()
        for sock in self._sockets:
            sock.close()

    def _take_tcp(self, server: Any) -> None:
        while True:
            sock, _ = server.accept()
            self._sockets.append(sock)
            with suppress(OSError):
                for piece in self._pieces:
                    sock.sendall(piece)
            if self._leave == "reset":
                reset(sock)
            elif self._leave == "close":
                sock.close()

    def _take_udp(self, server: Any) -> None:
        while True:
            _, client = server.recvfrom(_LARGEST)
            for piece in self._pieces:
                server.sendto(piece, client)


def reset(sock: Any) -> None:
    """Close `sock` with RST."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    sock.close()
