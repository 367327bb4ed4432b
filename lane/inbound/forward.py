"""A local port that stands for one target: for applications that know no proxy.

There is no protocol in which it could say that the target can't be reached. So it resets the connection
then: an application must not take that for an empty answer.
"""

import logging

import gevent.socket

from lane.address import Address
from lane.errors import LaneError
from lane.inbound.connector import TargetConnector
from lane.session.sockets import SocketStream

log = logging.getLogger("lane.inbound")


def serve(sock: gevent.socket.socket, connector: TargetConnector, target: Address) -> None:
    """Carry one connection to `target` and serve it to its end. Takes over `sock`."""
    try:
        connection = connector.connect(target)
    except BaseException as error:
        SocketStream(sock).reset()
        if not isinstance(error, LaneError):
            raise
        log.info("%s: %s (the connection to it is reset)", target, error)
        return
    connection.run(sock, b"")
