"""Connections that the kernel redirected here: their applications know of no proxy at all.

A rule of iptables or nftables rewrites where a connection goes to, and connection tracking remembers where
it was to go: that is the target. A connection that nobody redirected was to come here. Carried, it
would come here again, without end: it is refused. docs/TRANSPARENT.md has the rules for the kernel.
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
    """Serves what was redirected to one listener. Raises ConfigError where the kernel is not Linux."""

    def __init__(self, connector: TargetConnector) -> None:
        if sys.platform != "linux":
            raise ConfigError("redirect works on Linux only")
        remember_dials()
        self._connector = connector
        self._warned = False

    def serve(self, sock: gevent.socket.socket) -> None:
        """Carry one connection to where it was to go, and serve it to its end. Takes over `sock`."""
        try:
            target = original_destination(sock)
            again = target is not None and is_dialled(sock.getpeername(), target)
        except OSError as error:  # no connection tracking, or it does not know this one
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
            self._warned = True  # once says it; a loop would say it without end
            log.warning("refused a connection that %s, and will refuse others", why)


def original_destination(sock: gevent.socket.socket) -> Address | None:
    """Where the connection was to go before it was redirected; None where it was to come here.

    Raises OSError where the kernel does not know.
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
