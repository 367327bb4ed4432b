"""SOCKS BIND: a port on the server that accepts one connection for an application (SOCKS5 and SOCKS4).

The application gets two replies: the address of the port, and the address of the peer that connected
(RFC 1928 section 4).
"""

import logging

import gevent
import gevent.socket

from lane.address import Address
from lane.errors import LaneError, ProtocolError
from lane.inbound.connector import Listening, TargetConnector
from lane.inbound.handshake_io import RECV_SIZE, receive, refuse, say, status_of
from lane.proto.events import Codec

log = logging.getLogger("lane.inbound")


def bind(sock: gevent.socket.socket, connector: TargetConnector, codec: Codec, peer: Address) -> None:
    """Serve an application that expects a connection from `peer`, until both directions have ended."""
    try:
        listening = connector.bind(peer)
    except LaneError as error:
        refuse(sock, codec.refused(status_of(error), str(error)))
        return
    early = bytearray(codec.trailing_data)
    try:
        say(sock, codec.accepted(listening.bound))
        say(sock, codec.accepted(_wait_for_peer(sock, listening, early)))
    except LaneError as error:
        listening.abort()
        refuse(sock, codec.refused(status_of(error), str(error)))
        return
    except OSError as error:
        listening.abort()
        log.debug("dropped a connection: %s", error)
        return
    except BaseException:
        listening.abort()
        raise
    del codec, peer  # connections last long: hold nothing that is no longer needed
    listening.run(sock, bytes(early))


def _wait_for_peer(sock: gevent.socket.socket, listening: Listening, early: bytearray) -> Address:
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
    try:
        return listening.accept()
    finally:
        watcher.kill()  # no limit: the watcher only reads, so it ends at once
