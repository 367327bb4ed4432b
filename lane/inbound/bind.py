"""A port on the server that an application asks for, with BIND of SOCKS5 and SOCKS4, for one connection.

The application gets two answers: where the port is, and who has connected (RFC 1928 section 4).
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
    """Serve an application that waits for `peer`, to its end."""
    try:
        listening = connector.bind(peer)
    except LaneError as error:
        refuse(sock, codec.refused(status_of(error), str(error)))
        return
    early = bytearray(codec.trailing_data)
    try:
        say(sock, codec.accepted(listening.bound))
        say(sock, codec.accepted(_who_came(sock, listening, early)))
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
    del codec, peer  # connections last
    listening.run(sock, bytes(early))


def _who_came(sock: gevent.socket.socket, listening: Listening, early: bytearray) -> Address:
    """Whom the connection is from; `early` gets what the application says meanwhile, within bounds.

    An application that leaves has no use for the port. Raises LaneError.
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
        watcher.kill()  # no limit: it only reads
