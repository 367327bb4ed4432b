"""One application's connection, from its first byte until a `TargetConnection` takes it over.

The protocols differ only in their codecs. Deadlines, limits and the closing of the socket are the same for
all, and are here. A refusal always reaches the application before the socket is closed.
"""

import contextlib
import logging
from dataclasses import dataclass, field
from functools import partial

import gevent
import gevent.socket

from lane.address import Address
from lane.deadline import deadline
from lane.errors import LaneError, ProtocolError, Status, Suspended
from lane.inbound.bind import bind
from lane.inbound.connector import TargetConnector
from lane.inbound.handshake_io import Asked, read_request, refuse, say, status_of
from lane.inbound.http import forward
from lane.inbound.openings import Openings
from lane.inbound.udp import AppUdpPort, UdpTerms, relay
from lane.net.guesses import Guesses
from lane.proto.events import (
    AssociateRequest,
    BindRequest,
    Codec,
    ConnectRequest,
    Credentials,
    ForwardRequest,
    Refusal,
)
from lane.proto.http import Http
from lane.proto.socks4 import VERSION as SOCKS4
from lane.proto.socks4 import Socks4
from lane.proto.socks5 import VERSION as SOCKS5
from lane.proto.socks5 import Socks5

log = logging.getLogger("lane.inbound")


@dataclass(slots=True)
class Terms:
    """What applications are offered, and which limits they must keep."""

    credentials: Credentials | None
    """User and password that an application must give; None: no login. May be replaced at any time."""
    handshake_timeout: float
    """Seconds that an application may take to complete its request."""
    udp: UdpTerms = field(default_factory=UdpTerms)
    pac: bool = False
    """Whether the port also serves a proxy auto-config file."""
    guesses: Guesses = field(default_factory=partial(Guesses, "user or password"))
    openings: Openings = field(default_factory=Openings)
    """The connections that wait for their application's next request."""


class _Late(Exception):
    """The application made no request in time."""


def serve(sock: gevent.socket.socket, connector: TargetConnector, terms: Terms) -> None:
    """Serve one application until its connection ends. The caller closes `sock` in any case.

    Errors of the application end its connection quietly here. Any other exception is a bug in lane or in
    `connector`.
    """
    try:
        with deadline(terms.handshake_timeout, _Late):
            codec, asked = _handshake(sock, terms)
    except _Late:
        log.debug("dropped a connection: no request within %g s", terms.handshake_timeout)
        return
    except (OSError, ProtocolError) as error:
        log.debug("dropped a connection: %s", error)
        return
    except Suspended:
        return  # another process serves it
    event: Asked | None = asked
    if isinstance(asked, ForwardRequest):
        assert isinstance(codec, Http)
        event = forward(sock, connector, codec, asked, terms.openings)
    match event:
        case Refusal(data) if codec.login is False:
            _refuse_guess(sock, data, terms.guesses)
        case Refusal(data):
            refuse(sock, data)
        case ConnectRequest(target):
            _connect(sock, connector, codec, target)
        case AssociateRequest(source):
            _associate(sock, connector, codec, source, terms.udp)
        case BindRequest(peer):
            bind(sock, connector, codec, peer)


def _refuse_guess(sock: gevent.socket.socket, data: bytes, guesses: Guesses) -> None:
    """Refuse a wrong password after a delay. A greenlet of its own waits, so no place in the pool is held."""
    try:
        host = sock.getpeername()[0]
        delay = guesses.wrong(host)
        late = sock.dup()  # the caller closes `sock`
    except OSError as error:
        log.debug("dropped a connection: %s", error)
        return

    def answer() -> None:
        with late:
            if guesses.pause(host, delay):
                refuse(late, data)

    gevent.spawn(answer)


def _connect(sock: gevent.socket.socket, connector: TargetConnector, codec: Codec, target: Address) -> None:
    try:
        connection = connector.connect(target)
    except LaneError as error:
        refuse(sock, codec.refused(status_of(error), str(error)))
        return
    try:
        say(sock, codec.accepted(connection.bound))
    except OSError as error:
        connection.abort()
        log.debug("dropped a connection: %s", error)
        return
    except BaseException:
        connection.abort()
        raise
    early = codec.trailing_data
    del codec  # connections last long: hold nothing that is no longer needed
    connection.run(sock, early)


def _associate(
    sock: gevent.socket.socket, connector: TargetConnector, codec: Codec, source: Address, terms: UdpTerms
) -> None:
    try:
        port = AppUdpPort.open(sock, source)
    except OSError as error:
        refuse(sock, codec.refused(Status.FAILURE, f"no port for packets: {error.strerror}"))
        return
    try:
        association = connector.associate(port.deliver, anyone=terms.anyone)
    except LaneError as error:
        port.close()
        refuse(sock, codec.refused(status_of(error), str(error)))
        return
    with contextlib.closing(port), contextlib.closing(association):
        with contextlib.suppress(OSError):  # the application has disconnected: `relay` notices at once
            say(sock, codec.accepted(port.address))
        log.debug("an association ended: %s", relay(sock, port, association, terms.idle_timeout))


def _handshake(sock: gevent.socket.socket, terms: Terms) -> tuple[Codec, Asked]:
    """Run the handshake until the application has made its request or is refused.

    Raises ProtocolError, OSError.
    """
    data = terms.openings.receive(sock)
    codec: Codec
    if data[0] == SOCKS5:
        codec = Socks5(terms.credentials)
    elif data[0] == SOCKS4:
        codec = Socks4(terms.credentials)
    elif data[:1].isupper() or data[0] in b"\r\n":
        # Every HTTP method in use starts with an uppercase letter; an empty line may precede it (RFC 9112
        # section 2.2).
        own = Address(*sock.getsockname()[:2]) if terms.pac else None
        codec = Http(terms.credentials, own)
    else:
        raise ProtocolError(f"no protocol starts with the byte 0x{data[0]:02x}")
    codec.receive(data)
    return codec, read_request(sock, codec, terms.guesses)
