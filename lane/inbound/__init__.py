"""Where applications enter: a listener that speaks SOCKS5 and HTTP CONNECT on one port."""

from lane.inbound.connector import Connection, Connector
from lane.inbound.handshake import Terms
from lane.inbound.listener import Inbound

__all__ = ["Connection", "Connector", "Inbound", "Terms"]
