"""A local port that forwards to one fixed target, for applications without proxy support.

No proxy protocol is spoken, so there is no reply that could report an unreachable target. The connection is
reset instead: the application must not mistake a clean end for an empty answer.
"""

import logging

import gevent.socket

from lane.address import Address
from lane.errors import LaneError
from lane.inbound.connector import TargetConnector
from lane.session.sockets import SocketStream

log = logging.getLogger("lane.inbound")


def serve(sock: gevent.socket.socket, connector: TargetConnector, target: Address) -> None:
    """Connect to `target` and relay one connection until both directions have ended. Takes over `sock`."""
    try:
        connection = connector.connect(target)
    except BaseException as error:
        SocketStream(sock).reset()
        if not isinstance(error, LaneError):
            raise
        log.info("%s: %s (the connection to it is reset)", target, error)
        return
    connection.run(sock, b"")
