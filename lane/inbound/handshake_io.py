"""Socket helpers that all handshakes share: reading for a codec, writing replies, and a clean close."""

import contextlib

import gevent
import gevent.socket

from lane.errors import LaneError, ProtocolError, Status, TargetError
from lane.fair import AT_ONCE, maybe_yield
from lane.net.guesses import Guesses
from lane.net.sockets import end_on_close
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
"""Bytes per read. It also limits the early data that is held while lane connects to the target."""
SAY_TIME = 30.0
"""Seconds that an application may take to read a reply when its receive buffer is full."""
LINGER_TIME = 3.0
"""Seconds that lane keeps reading after a refusal, until the application closes."""
LINGER_SIZE = 4 << 20
"""Bytes that the application may send during that time: many send a whole body before they read."""


class Left(ProtocolError):
    """The application ended its side although more data was expected."""


Asked = ConnectRequest | ForwardRequest | BindRequest | AssociateRequest | Refusal


def read_request(sock: gevent.socket.socket, codec: Codec, guesses: Guesses | None = None) -> Asked:
    """Read until the application has made its request or is refused. Raises ProtocolError, OSError.

    `guesses`: a right password waits here as long as a wrong one would; None: that wait is already over.
    """
    steps = 0
    while True:
        if (steps := steps + 1) % AT_ONCE == 0:  # a fast application may keep this loop from ever blocking
            maybe_yield()
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
    """Write a few bytes. Raises OSError.

    It tries `send` first, because gevent's `sendall` begins with an extra system call.
    """
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
    """Receive the next bytes from the application. Raises Left, OSError."""
    data: bytes = sock.recv(RECV_SIZE)
    if not data:
        end_on_close(sock)  # it ended first, and may still read the last answer
        raise Left("the application left before its request was complete")
    return data


def refuse(sock: gevent.socket.socket, data: bytes) -> None:
    """Write the last bytes and make sure that they arrive.

    Closing a socket with unread input resets the connection, and the reset may destroy data that is still in
    flight. So this function first ends its own direction. Then it reads, up to a limit, until the
    application has closed as well.
    """
    with contextlib.suppress(OSError), gevent.Timeout(LINGER_TIME, False):
        end_on_close(sock)
        sock.sendall(data)
        sock.shutdown(gevent.socket.SHUT_WR)
        left = LINGER_SIZE
        while left > 0 and (unread := sock.recv(RECV_SIZE)):
            left -= len(unread)


def status_of(error: LaneError) -> Status:
    """The status that is reported to the application for `error`."""
    return error.status if isinstance(error, TargetError) else Status.FAILURE
