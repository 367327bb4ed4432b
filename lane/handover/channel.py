"""Values and descriptors over a local socket, between two processes of one machine.

A message is a value (`lane.session.parcel`) with descriptors beside it (SCM_RIGHTS in unix(7)).
"""

import array
import os
import socket
import struct
from typing import Any

from gevent import socket as gsocket

from lane.errors import Closed, ProtocolError
from lane.session.parcel import pack, unpack

MOST_BYTES = 1 << 28
"""The longest value in bytes: several times the windows of a session."""
MOST_DESCRIPTORS = 250
"""Descriptors of one message. The kernel takes 253 (SCM_MAX_FD)."""
_HEAD = struct.Struct("!IB")  # the length of the value, the number of descriptors
_ITEM = array.array("i").itemsize

Message = tuple[Any, list[int]]
"""A value of dictionaries, lists, texts, numbers, bytes and None, and descriptors."""


def send(sock: Any, value: Any, descriptors: list[int] | None = None) -> None:
    """Send a message. The descriptors stay open here. Raises OSError. The caller sets the deadline."""
    data, rights = pack(value), array.array("i", descriptors or ())
    head = _HEAD.pack(len(data), len(rights))
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
    sent = sock.sendmsg([head], ancillary)
    sock.sendall(head[sent:] + data)


def receive(sock: Any) -> Message:
    """Receive a message. Raises Closed, ProtocolError or OSError. The caller sets the deadline."""
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * _ITEM)
    data, ancillary, _, _ = sock.recvmsg(_HEAD.size, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    descriptors: list[int] = []
    for level, kind, raw in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors += array.array("i", raw[: len(raw) // _ITEM * _ITEM])
    try:
        data += _exactly(sock, _HEAD.size - len(data))
        length, number = _HEAD.unpack(data)
        if length > MOST_BYTES or number != len(descriptors):
            raise ProtocolError("malformed message of another process")
        return unpack(_exactly(sock, length)), descriptors
    except BaseException:
        for one in descriptors:
            os.close(one)
        raise


def _exactly(sock: Any, size: int) -> bytes:
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            raise Closed("the other process closed the connection")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def name() -> str:
    """A name for a listening socket that no other has: an abstract one (unix(7)), without a file."""
    return "\0lane-" + os.urandom(16).hex()


def listen(at: str) -> socket.socket:
    """A socket that listens at `at`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(at)
    sock.listen(64)
    return sock


def connect(at: str, make: Any = gsocket.socket, timeout: float | None = None) -> Any:
    """A connection to the process that listens at `at`. Raises OSError, also if it is another user's."""
    sock = make(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(at)
        if not trusted(sock):
            raise PermissionError("another user listens there")
    except BaseException:
        sock.close()
        raise
    return sock


def trusted(sock: Any) -> bool:
    """Whether the process at the other end is this user's, or root's."""
    _, user, _ = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user in (0, os.geteuid())
