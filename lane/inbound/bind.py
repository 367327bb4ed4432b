"""SOCKS BIND: a port on the server that accepts one connection for an application (SOCKS5 and SOCKS4).

The application gets two replies: the address of the port, and the address of the peer that connected
(RFC 1928 section 4).
"""

import logging
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket

from lane.address import Address
from lane.errors import LaneError, ProtocolError, Suspended
from lane.inbound.connector import Listening, TargetConnector
from lane.inbound.handshake_io import RECV_SIZE, receive, refuse, say, status_of
from lane.proto.events import Codec
from lane.proto.socks4 import Socks4
from lane.proto.socks5 import Socks5
from lane.session.parcel import Parcel

KIND = "bind"
"""The kind of the parcel of a connection that waits for its peer."""

log = logging.getLogger("lane.inbound")


def bind(sock: gevent.socket.socket, connector: TargetConnector, codec: Codec, peer: Address) -> None:
    """Serve an application that expects a connection from `peer`, until both directions have ended."""
    try:
        listening = connector.bind(peer)
    except LaneError as error:
        refuse(sock, codec.refused(status_of(error), str(error)))
        return
    early = bytearray(codec.trailing_data)
    _serve(sock, listening, codec, early, told=False)


def take_over(parcel: Parcel, listening: Listening) -> Callable[[], None]:
    """Go on with a connection that waited in another process, `listening`. The caller calls the result."""
    state, (descriptor,) = parcel
    codec: Codec = Socks4(None) if state["socks"] == 4 else Socks5(None)

    def serve() -> None:
        with gevent.socket.socket(fileno=descriptor) as sock:
            _serve(sock, listening, codec, bytearray(state["early"]), told=True)

    return serve


def _serve(
    sock: gevent.socket.socket, listening: Listening, codec: Codec, early: bytearray, *, told: bool
) -> None:
    """Serve the application. `told`: it knows the address of the port. Returns too if it goes elsewhere."""
    try:
        if not told:
            say(sock, codec.accepted(listening.bound))
        say(sock, codec.accepted(_wait_for_peer(sock, listening, codec, early)))
    except LaneError as error:
        listening.abort()
        refuse(sock, codec.refused(status_of(error), str(error)))
        return
    except (OSError, Suspended) as error:
        listening.abort()
        log.debug("dropped a connection: %s", error)
        return
    except BaseException:
        listening.abort()
        raise
    del codec  # connections last long: hold nothing that is no longer needed
    listening.run(sock, bytes(early))


def _wait_for_peer(
    sock: gevent.socket.socket, listening: Listening, codec: Codec, early: bytearray
) -> Address:
    """Wait for the connection and return its peer's address. Raises LaneError.

    `early` collects up to about `RECV_SIZE` bytes that the application sends meanwhile. If the application
    disconnects, the port is closed: nobody else has a use for it.
    """

    def watch() -> None:
        try:
            while len(early) < RECV_SIZE:
                early.extend(receive(sock))
        except (OSError, ProtocolError):
            listening.abort()

    watcher = gevent.spawn(watch)

    def go() -> tuple[dict[str, Any], list[int]]:
        watcher.kill()  # no limit: the watcher only reads, so it ends at once
        socks = 4 if isinstance(codec, Socks4) else 5
        return {"kind": KIND, "socks": socks, "early": bytes(early)}, [sock.detach()]

    try:
        return listening.accept(go)
    finally:
        watcher.kill()  # no limit: the watcher only reads, so it ends at once
