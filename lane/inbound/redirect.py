"""Transparent proxying: connections that the kernel redirected here, from applications without proxy support.

A rule of iptables or nftables rewrites the destination of a connection. Connection tracking remembers the
original destination, which is the target. A connection that was not redirected has this port itself as its
destination. Carrying it would lead back here without end, so it is refused. docs/TRANSPARENT.md has the rules
for the kernel.
"""

import logging
import os
import socket
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

import gevent.socket

from lane.address import Address, unmapped
from lane.errors import ConfigError
from lane.inbound import forward
from lane.inbound.connector import TargetConnector
from lane.net.own import is_dialled, remember_dials
from lane.session.sockets import SocketStream

SO_ORIGINAL_DST = 80
"""The same number for IPv4 and IPv6 (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h)."""

log = logging.getLogger("lane.inbound")


class Redirect:
    """Serves the connections that were redirected to one listener. Raises ConfigError outside Linux."""

    def __init__(self, connector: TargetConnector) -> None:
        if sys.platform != "linux":
            raise ConfigError("redirect works on Linux only")
        remember_dials()
        self._connector = connector
        self._warned = False

    def serve(self, sock: gevent.socket.socket) -> None:
        """Relay one connection to its original destination until it ends. Takes over `sock`."""
        try:
            target = original_destination(sock)
            again = target is not None and is_dialled(sock.getpeername(), target)
        except OSError as error:  # no connection tracking, or no entry for this connection
            self._refuse(sock, f"was not redirected here ({os.strerror(error.errno or 0)})")
            return
        if target is None:
            self._refuse(sock, "was not redirected here (it was to come here)")
        elif again:
            self._refuse(sock, "lane had made itself (docs/TRANSPARENT.md says how to leave those out)")
        else:
            forward.serve(sock, self._connector, target)

    def _refuse(self, sock: gevent.socket.socket, why: str) -> None:
        SocketStream(sock).reset()
        if not self._warned:
            self._warned = True  # one line is enough: a loop would log without end
            log.warning("refused a connection that %s, and will refuse others", why)


def original_destination(sock: gevent.socket.socket) -> Address | None:
    """The destination before the redirection; None if the connection was not redirected.

    Raises OSError if the kernel does not know.
    """
    host, port = sock.getsockname()[:2]
    here = unmapped(ip_address(host.partition("%")[0]))  # without the interface of a link-local address
    address: IPv4Address | IPv6Address
    if here.version == 4:  # struct sockaddr_in: family, port, address
        raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        address = IPv4Address(raw[4:8])
    else:  # struct sockaddr_in6: family, port, flow, address, scope
        raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
        address = IPv6Address(raw[8:24])
    target = Address(address.compressed, int.from_bytes(raw[2:4], "big"))
    return None if target == (here.compressed, port) else target
