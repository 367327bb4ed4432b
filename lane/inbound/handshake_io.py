"""What every conversation with an application is made of: reading for a codec, and a decent end."""

import contextlib

import gevent
import gevent.socket

from lane.errors import LaneError, ProtocolError, Status, TargetError
from lane.fair import maybe_yield
from lane.net.guesses import Guesses
from lane.proto.events import (
    AssociateRequest,
    BindRequest,
    Codec,
    ConnectRequest,
    ForwardRequest,
    Refusal,
    ReplyBytes,
)

RECV_SIZE = 16384
"""Bytes read at once; also the most early data that is held while the target is connected to."""
SAY_TIME = 30.0
"""Seconds that an application may take to read what it is told, where it has not read what came before."""
LINGER_TIME = 1.0
"""Seconds in which an application may still send after a refusal, until it closes."""
LINGER_SIZE = 262144
"""Bytes that it may send meanwhile."""


class Left(ProtocolError):
    """The application ended its side where something was to come."""


Asked = ConnectRequest | ForwardRequest | BindRequest | AssociateRequest | Refusal


def read_request(sock: gevent.socket.socket, codec: Codec, guesses: Guesses | None = None) -> Asked:
    """Go on until the application has asked for something or is refused. Raises ProtocolError, OSError.

    `guesses`: have it wait where others guess; None where it has done so.
    """
    while True:
        maybe_yield()  # requests may come, and be answered, without end
        event = codec.next_event()
        if guesses and codec.login:
            guesses.right(sock.getpeername()[0])
            guesses = None
        if event is None:
            codec.receive(receive(sock))
        elif isinstance(event, ReplyBytes):
            say(sock, event.data)
        else:
            return event


def say(sock: gevent.socket.socket, data: bytes) -> None:
    """Write a few bytes. Raises OSError. gevent's `sendall` begins with a question to the kernel."""
    try:
        sent = sock.send(data, 0, 0.0)  # without waiting
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        sock.settimeout(SAY_TIME)
        try:
            sock.sendall(data[sent:])
        finally:
            sock.settimeout(None)


def receive(sock: gevent.socket.socket) -> bytes:
    """The next bytes of the application. Raises Left, OSError."""
    data: bytes = sock.recv(RECV_SIZE)
    if not data:
        raise Left("the application left before its request was complete")
    return data


def refuse(sock: gevent.socket.socket, data: bytes) -> None:
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


def status_of(error: LaneError) -> Status:
    """What an application is told of `error`."""
    return error.status if isinstance(error, TargetError) else Status.FAILURE
