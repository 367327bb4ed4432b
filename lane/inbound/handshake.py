"""One application's connection, from its first byte until a `Connection` takes it over.

The protocols differ in their codecs only; deadlines, limits and a decent end are the same for all and
are here. The application is told the truth: a refusal reaches it before the socket is closed.
"""

import contextlib
import logging

import gevent
import gevent.socket

from lane.errors import LaneError, ProtocolError, Status, TargetError
from lane.inbound.connector import Connector
from lane.proto.events import Codec, Credentials, Refusal, Reply, Request
from lane.proto.http import HttpConnect
from lane.proto.socks5 import VERSION as SOCKS5
from lane.proto.socks5 import Socks5

RECV_SIZE = 16384
"""Bytes read at once; also the most early data that is held while the target is connected to."""
LINGER_TIME = 1.0
"""Seconds in which an application may still send after a refusal, until it closes."""
LINGER_SIZE = 262144
"""Bytes that it may send meanwhile."""

log = logging.getLogger("lane.inbound")


def serve(
    sock: gevent.socket.socket, connect: Connector, credentials: Credentials | None, handshake_timeout: float
) -> None:
    """Serve one application to its end. The caller closes `sock`, whatever happened.

    The application has `handshake_timeout` seconds for all that comes before the end of its request.
    What it does wrong ends quietly here; what else is raised is a bug of lane's or of `connect`'s.
    """
    try:
        asked = gevent.with_timeout(handshake_timeout, _handshake, sock, credentials, timeout_value=None)
    except (OSError, ProtocolError) as error:
        log.debug("dropped a connection: %s", error)
        return
    if asked is None:
        log.debug("dropped a connection: no request within %g s", handshake_timeout)
        return
    codec, event = asked
    if isinstance(event, Refusal):
        _refuse(sock, event.data)
        return
    try:
        connection = connect(event.target)
    except LaneError as error:
        status = error.status if isinstance(error, TargetError) else Status.FAILURE
        _refuse(sock, codec.refused(status, str(error)))
        return
    try:
        sock.sendall(codec.accepted(connection.bound))
    except OSError as error:
        connection.abort()
        log.debug("dropped a connection: %s", error)
        return
    except BaseException:
        connection.abort()
        raise
    early = codec.trailing_data
    del asked, codec, event  # connections last
    connection.run(sock, early)


def _handshake(
    sock: gevent.socket.socket, credentials: Credentials | None
) -> tuple[Codec, Request | Refusal]:
    """Talk until the application has made its request or is refused. Raises ProtocolError, OSError."""
    data = _recv(sock)
    codec: Codec
    if data[0] == SOCKS5:
        codec = Socks5(credentials)
    elif data[:1].isupper():  # every HTTP method in use starts with an uppercase letter
        codec = HttpConnect(credentials)
    else:
        raise ProtocolError(f"no protocol starts with the byte 0x{data[0]:02x}")
    codec.receive(data)
    while True:
        event = codec.next_event()
        if event is None:
            codec.receive(_recv(sock))
        elif isinstance(event, Reply):
            sock.sendall(event.data)
        else:
            return codec, event


def _recv(sock: gevent.socket.socket) -> bytes:
    data: bytes = sock.recv(RECV_SIZE)
    if not data:
        raise ProtocolError("the application left before its request was complete")
    return data


def _refuse(sock: gevent.socket.socket, data: bytes) -> None:
    """Write the last bytes so that they arrive.

    Closing a socket with unread input resets the connection, and the reset may destroy what was written:
    so say that this is the end, and read until the application has closed too, within bounds.
    """
    with contextlib.suppress(OSError), gevent.Timeout(LINGER_TIME, False):
        sock.sendall(data)
        sock.shutdown(gevent.socket.SHUT_WR)
        left = LINGER_SIZE
        while left > 0 and (unread := sock.recv(RECV_SIZE)):
            left -= len(unread)
